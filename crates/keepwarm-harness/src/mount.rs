//! Loop devices and mounts, which are gone when their guards are.

use crate::process::{has, is_root, tool};
use crate::scenario::{Context, Outcome, Skip};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mounted file system; unmounted when dropped, and with it its device is gone.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) dir: PathBuf,
}

/// An attached loop device; detached when dropped, or, while it is mounted, by its unmounting.
#[derive(Debug)]
pub(crate) struct Device(String);

impl Device {
    /// Attaches an image, past the page cache of what holds it where that works.
    pub(crate) fn attach(image: &Path, direct: bool) -> Outcome<Self> {
        let image = image.to_string_lossy();
        let mut args = vec!["--find", "--show"];
        if direct {
            args.push("--direct-io=on");
        }
        args.push(&image);
        Ok(Self(tool("losetup", &args)?))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = tool("losetup", &["--detach", &self.0]) {
            eprintln!("  {error}");
        }
    }
}

impl Mount {
    /// A file system in memory.
    pub(crate) fn tmpfs(dir: &Path, options: &str) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        let name = dir.to_string_lossy();
        tool("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &name])?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// What is on a device. That is detached here and now, which the kernel does when it is not in
    /// use any more: at the unmounting, whoever does that.
    pub(crate) fn device(device: Device, dir: &Path, options: &str) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        tool("mount", &["-o", options, &device.0, &dir.to_string_lossy()])?;
        drop(device);
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Any other one.
    pub(crate) fn other(args: &[&str], dir: &Path) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        let mut args = args.to_vec();
        let name = dir.to_string_lossy();
        args.push(&name);
        tool("mount", &args)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let dir = self.dir.to_string_lossy().into_owned();
        if tool("umount", &[&dir]).is_err() {
            // Somebody is still in it; it goes when they do.
            if let Err(error) = tool("umount", &["--lazy", &dir]) {
                eprintln!("  {error}");
            }
        }
    }
}

/// Cleans up below a directory when this process is gone, however it ends.
#[derive(Debug)]
pub(crate) struct Sweeper(Child);

/// Waits for the end of its input, which is that of who holds the other end. Asks for devices before
/// it unmounts what holds their images: after that they would not tell where those are.
const SWEEP: &str = r#"cat >/dev/null
devices=$(losetup -l -n -O NAME,BACK-FILE | awk -v d="$0/" 'index($2, d) == 1 { print $1 }')
for m in $(awk -v d="$0/" 'index($2, d) == 1 { print $2 }' /proc/mounts | tac); do
    umount "$m" || umount -l "$m"
done
for l in $devices; do losetup -d "$l"; done
# Children that are still there end when they see that nobody is above them.
for i in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$0" && break
    sleep 1
done"#;

impl Sweeper {
    pub(crate) fn start(dir: &Path) -> Outcome<Self> {
        let child = Command::new("sh")
            .args(["-c", SWEEP])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt at the keyboard is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// An image file of `size` with a file system made by `make`, a program and its arguments.
pub(crate) fn image(path: &Path, size: u64, make: &[&str]) -> Outcome<()> {
    File::create(path)?.set_len(size)?;
    let (program, args) = make.split_first().ok_or("no program")?;
    let path = path.to_string_lossy();
    let mut args = args.to_vec();
    args.push(&path);
    tool(program, &args)?;
    Ok(())
}

/// Skips what cannot be done here. With `--install` missing programs (with their packages) are
/// installed.
pub(crate) fn require(context: &Context, programs: &[(&str, &str)]) -> Outcome<()> {
    if context.is_short() {
        return Err(Skip("needs root, which the short form does without".into()).into());
    }
    if !is_root() {
        return Err(Skip("needs root".into()).into());
    }
    need(context, programs)
}

/// The same for what does not need root.
pub(crate) fn need(context: &Context, programs: &[(&str, &str)]) -> Outcome<()> {
    for (program, package) in programs {
        if !has(program) && context.install {
            tool("apt-get", &["install", "-y", package])?;
        }
        if !has(program) {
            let why = format!("{program} is not installed (package {package}; see --install)");
            return Err(Skip(why).into());
        }
    }
    Ok(())
}
