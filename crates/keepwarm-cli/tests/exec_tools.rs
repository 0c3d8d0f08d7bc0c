//! `exec` around real compilers: what it gives is what they write without it.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs;
use support::Place;
use support::running::{Running, has, said};

const SHADER: &str = "#version 450
layout(location = 0) out vec4 colour;
void main() { colour = vec4(0.25); }
";

const WGSL: &str = "@compute @workgroup_size(64) fn main() {}
";

/// Writes a file again and again through `exec` and without it, and compares.
struct Compiler<'a> {
    place: &'a Place,
    flags: &'a [&'a str],
    words: &'a [&'a str],
    output: &'a str,
}

impl Compiler<'_> {
    /// Runs it without `exec`, then with it; what was explained.
    fn run(&self, more: &[&str], variable: (&str, &str)) -> String {
        let output = self.place.path(self.output);
        let words = [self.words, more].concat();
        let mut plain = self.place.bare(words[0].as_ref());
        let plain = plain.args(&words[1..]).env(variable.0, variable.1);
        let plain = Running::start(plain).finish();
        assert!(plain.status.success(), "{}", said(&plain));
        let expected = fs::read(&output).unwrap();
        let permissions = fs::metadata(&output).unwrap().permissions();
        fs::remove_file(&output).unwrap();

        let flags = ["--explain", "--env", variable.0, "--output", self.output];
        let all = [&flags, self.flags, &["--"], &words].concat();
        let mut command = self.place.exec(&all);
        let wrapped = Running::start(command.env(variable.0, variable.1)).finish();
        assert!(wrapped.status.success(), "{}", said(&wrapped));
        assert_eq!(wrapped.stdout, plain.stdout);
        assert_eq!(fs::read(&output).unwrap(), expected);
        assert_eq!(fs::metadata(&output).unwrap().permissions(), permissions);
        let own = said(&wrapped).replace(&said(&plain), "");
        let lines = own
            .lines()
            .map(|line| line.trim_start_matches("keepwarm: "));
        lines.collect::<Vec<_>>().join(", ")
    }

    /// The whole way: nothing there, found, and what a change changes. `source` is a file that the
    /// compiler reads, and `changed` another one that it accepts.
    fn check(&self, (source, changed): (&str, &str), flag: &str) {
        let same = ("KEEPWARM_TEST", "1");
        let new = "this program was not run for these outputs before";
        assert_eq!(self.run(&[], same), new);
        assert_eq!(self.run(&[], same), "found");
        let last = self.words.len();
        assert_eq!(self.run(&[flag], same), format!("argument {last} is new"));
        assert_eq!(self.run(&[flag], same), "found");
        let other = ("KEEPWARM_TEST", "2");
        assert_eq!(self.run(&[flag], other), "variable KEEPWARM_TEST changed");
        assert_eq!(self.run(&[flag], other), "found");
        let before = fs::read(self.place.path(source)).unwrap();
        fs::write(self.place.path(source), changed).unwrap();
        let lines = self.run(&[flag], other);
        assert_eq!(lines, format!("input {source} changed"));
        assert_eq!(self.run(&[flag], other), "found");
        // As it was.
        fs::write(self.place.path(source), before).unwrap();
        assert_eq!(self.run(&[], same), "found");
        // What fails is told as the compiler does, and not kept.
        fs::write(self.place.path(source), "no source").unwrap();
        let words = [self.flags, &["--output", self.output, "--"], self.words].concat();
        for _ in 0..2 {
            let mut plain = self.place.bare(self.words[0].as_ref());
            let plain = Running::start(plain.args(&self.words[1..])).finish();
            let wrapped = Running::start(&mut self.place.exec(&words)).finish();
            assert!(!plain.status.success());
            assert_eq!(wrapped, plain);
        }
    }
}

#[test]
fn a_c_compiler_with_a_header() {
    if !has("cc", "--version") {
        return;
    }
    let place = Place::empty();
    fs::create_dir(place.path("src")).unwrap();
    fs::write(place.path("src/a.h"), "#define N 3\n").unwrap();
    let source = "#include \"a.h\"\n#warning told\nint n(void) { return N; }\n";
    fs::write(place.path("src/a.c"), source).unwrap();
    let compiler = Compiler {
        place: &place,
        flags: &["--input", "src/*.h"],
        words: &["cc", "-c", "src/a.c", "-o", "a.o"],
        output: "a.o",
    };
    compiler.check(("src/a.h", "#define N 4\n"), "-O2");
}

#[test]
fn a_compiler_of_glsl() {
    if !has("glslangValidator", "--version") {
        return;
    }
    let place = Place::empty();
    fs::write(place.path("a.frag"), SHADER).unwrap();
    let compiler = Compiler {
        place: &place,
        flags: &[],
        words: &["glslangValidator", "-V", "a.frag", "-o", "a.spv"],
        output: "a.spv",
    };
    compiler.check(("a.frag", &SHADER.replace("0.25", "0.5")), "-g");
}

#[test]
fn a_compiler_of_wgsl() {
    if !has("naga", "--version") {
        return;
    }
    let place = Place::empty();
    fs::write(place.path("a.wgsl"), WGSL).unwrap();
    let compiler = Compiler {
        place: &place,
        flags: &[],
        words: &["naga", "a.wgsl", "a.spv"],
        output: "a.spv",
    };
    compiler.check(
        ("a.wgsl", &WGSL.replace("64", "32")),
        "--generate-debug-symbols",
    );
}
