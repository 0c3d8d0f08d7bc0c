//! The page of `report` in headless Chromium, where there is one: on a phone, in the light and in
//! the dark. `KEEPWARM_CHROMIUM` names another browser of that family.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "support/lived_in.rs"]
mod lived_in;
mod support;

use lived_in::lived_in;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::Place;

/// Measures the page in a frame of 360 pixels: everything is opened, and each range shown in turn.
const MEASURE: &str = include_str!("support/measure.js");

/// A browser, with a folder for what it writes.
struct Browser {
    program: PathBuf,
    home: tempfile::TempDir,
}

/// What it says of a page.
struct Seen {
    /// The document, after its scripts ran.
    dom: String,
    /// What it complained about.
    console: Vec<String>,
}

impl Seen {
    /// What the measuring script wrote behind `name`.
    fn told(&self, name: &str) -> &str {
        let after = self.dom.split(&format!("[{name} ")).nth(1);
        let told = after.and_then(|after| after.split(']').next());
        told.unwrap_or_else(|| {
            let (dom, console) = (&self.dom, &self.console);
            panic!("no {name} was measured: {console:?} in {dom}")
        })
    }

    fn number(&self, name: &str) -> f64 {
        self.told(name).parse().unwrap()
    }
}

impl Browser {
    /// The one of this machine; `None` where there is none that starts.
    fn find() -> Option<Self> {
        let named = std::env::var_os("KEEPWARM_CHROMIUM").map(PathBuf::from);
        let usual = ["chromium", "chromium-browser", "google-chrome"];
        let found = || usual.into_iter().find_map(|name| which::which(name).ok());
        let Some(program) = named.or_else(found) else {
            eprintln!("!!! SKIPPED the page in a browser: chromium is not installed");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let browser = Self { program, home };
        let probe = browser.home.path().join("probe.html");
        std::fs::write(&probe, "<p>it runs").unwrap();
        if browser
            .run(&probe, false)
            .is_none_or(|seen| !seen.dom.contains("it runs"))
        {
            eprintln!("!!! SKIPPED the page in a browser: chromium does not start here");
            return None;
        }
        Some(browser)
    }

    fn open(&self, page: &Path, dark: bool) -> Seen {
        self.run(page, dark).unwrap()
    }

    /// `None` if it does not end, or cannot be started.
    fn run(&self, page: &Path, dark: bool) -> Option<Seen> {
        let profile = tempfile::tempdir_in(self.home.path()).unwrap();
        let output = |name: &str| std::fs::File::create(self.home.path().join(name)).unwrap();
        let mut command = Command::new(&self.program);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ]);
        // 0 is dark, 1 is light.
        let scheme = u8::from(!dark);
        command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("file://{}", page.display()));
        command.env("HOME", self.home.path()).stdin(Stdio::null());
        command.stdout(output("dom")).stderr(output("log"));
        let mut child = command.spawn().ok()?;
        let deadline = Instant::now() + Duration::from_secs(120);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let read = |name: &str| {
            let bytes = std::fs::read(self.home.path().join(name)).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let log = read("log");
        let console = log.lines().filter(|line| line.contains(":CONSOLE"));
        Some(Seen {
            dom: read("dom"),
            console: console.map(str::to_owned).collect(),
        })
    }

    /// Measures a page in a frame as wide as a phone.
    fn measure(&self, html: &str, dark: bool) -> Seen {
        let quoted = html.replace('&', "&amp;").replace('"', "&quot;");
        let outer = format!(
            "<!DOCTYPE html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
             <iframe id=\"frame\" width=\"360\" height=\"800\" srcdoc=\"{quoted}\"></iframe>\
             <p id=\"told\"></p><script>{MEASURE}</script>"
        );
        let path = self.home.path().join("outer.html");
        std::fs::write(&path, outer).unwrap();
        self.open(&path, dark)
    }
}

fn page(place: &Place) -> String {
    place.text(&["report", "-o", "-"])
}

#[test]
fn chromium_shows_the_page_without_complaint_on_a_phone_in_light_and_dark() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let place = lived_in();
    place.text(&["report", "-o", "report.html"]);
    let seen = browser.open(&place.path("report.html").canonicalize().unwrap(), false);
    assert_eq!(seen.console, Vec::<String>::new());
    assert!(seen.dom.contains("id=\"hit-rate\"") && seen.dom.contains("All that was counted"));

    let mut shown = Vec::new();
    for place in [&place, &Place::with_entries(0)] {
        for dark in [false, true] {
            let seen = browser.measure(&page(place), dark);
            assert_eq!(seen.console, Vec::<String>::new());
            assert_eq!(seen.told("width"), "360", "it is as wide as the phone");
            assert_eq!(
                seen.told("cramped"),
                "0",
                "something sticks out of its card"
            );
            // What WCAG 2.2 asks for: 4.5 for text, 3 for what tells apart without it.
            let (text, graphics) = (seen.number("text"), seen.number("graphics"));
            assert!(text >= 4.5, "the contrast of a text is {text}");
            assert!(graphics >= 3.0, "the contrast of a bar is {graphics}");
            assert_eq!(seen.told("dark") == "1", dark);
            shown.push(seen.told("shown").to_owned());
        }
    }
    // A chart over time and the treemap, where there is something to show.
    assert_eq!(shown, ["2", "2", "0", "0"]);
}

#[test]
fn chromium_notices_what_the_test_is_about() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let html = page(&Place::with_entries(1));
    let changed = html.replacen("<style>", "<style>p { color: red }", 1);
    assert!(changed != html);
    assert!(
        !browser.measure(&changed, false).console.is_empty(),
        "looks that are not allowed"
    );
    let scripted = html.replacen("<body>", "<body><script>document.title = 1</script>", 1);
    assert!(
        !browser.measure(&scripted, false).console.is_empty(),
        "a script"
    );
    let wide = html.replacen(
        "<main>",
        &format!("<main></main><p>{}</p><main>", "x".repeat(300)),
        1,
    );
    assert!(browser.measure(&wide, false).number("width") > 360.0);
}
