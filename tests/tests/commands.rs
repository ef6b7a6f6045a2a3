//! What commands print, for people and for programs, and how they end; and the help of each, with an example. What `watch`,
//! `spool` and `bench` print is of the moment: their own tests look at it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use persist_tests::process;

/// One day: a job that succeeded and was then said to have failed, one that runs, one whose VM outlived it, one that waits.
const DAY: &str = r#"
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000001","state":"queued","at":"2026-11-01T08:00:00Z","repo_url":"https://example.org/acme/app.git","commit_sha":"3f2a9c","runs_on":"ubuntu-24.04","actor":"webhook"}}
{"vm":{"request_id":"0190c2f4-0000-7000-8000-000000000001","domain_name":"vm-1","state":"prepared","at":"2026-11-01T08:00:10Z","backend":"libvirt","overlay_path":"/ci/vm-1.qcow2","seed_path":"/ci/vm-1.iso"}}
{"vm":{"request_id":"0190c2f4-0000-7000-8000-000000000001","domain_name":"vm-1","state":"running","at":"2026-11-01T08:00:15Z"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000001","state":"running","at":"2026-11-01T08:00:20Z"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000001","state":"succeeded","at":"2026-11-01T08:04:20Z","actor":"agent"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000001","state":"failed","at":"2026-11-01T08:09:00Z","actor":"watchdog","reason":"no \u001b[31manswer"}}
{"vm":{"request_id":"0190c2f4-0000-7000-8000-000000000001","domain_name":"vm-1","state":"destroyed","at":"2026-11-01T08:04:30Z"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000002","state":"running","at":"2026-11-01T08:10:00Z","repo_url":"https://example.org/acme/lib.git","runs_on":"arm64"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000003","state":"queued","at":"2026-11-01T08:20:00Z","repo_url":"https://example.org/acme/app.git"}}
{"vm":{"request_id":"0190c2f4-0000-7000-8000-000000000003","domain_name":"vm-3","state":"running","at":"2026-11-01T08:20:05Z","overlay_path":"/ci/vm-3.qcow2"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000003","state":"timed_out","at":"2026-11-01T09:20:00Z","reason":"an hour"}}
{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000004","state":"queued","at":"2026-11-01T09:30:00Z"}}
"#;

const ONE: &str = "0190c2f4-0000-7000-8000-000000000001";

/// Of its owner alone, whatever the umask is: the doctor looks at it.
fn private_folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// A file with that day, and what is asked of it.
struct Store {
    folder: tempfile::TempDir,
    told: String,
}

impl Store {
    fn new() -> Self {
        let folder = private_folder();
        fs::write(folder.path().join("day.jsonl"), DAY).unwrap();
        let store = Self {
            folder,
            told: String::new(),
        };
        let url = "sqlite://day.db?mode=rwc";
        store.run(&["--database-url", url, "import", "day.jsonl"], 0);
        store
    }

    /// Runs a command in each format, and adds what it printed.
    fn tell(&mut self, arguments: &[&str], formats: &[&str], exits: i32) {
        for format in formats {
            let url = ["--database-url", "sqlite://day.db?mode=rwc", "--format", format];
            let ran = self.run(&[&url, arguments].concat(), exits);
            let (stdout, stderr) = (ran.stdout, ran.stderr);
            self.told
                .push_str(&format!("$ persist --format {format} {}\n", arguments.join(" ")));
            self.told.push_str(&stdout);
            if !stderr.is_empty() {
                self.told.push_str(&format!("(said) {stderr}"));
            }
            self.told.push_str(&format!("(exit code {exits})\n\n"));
        }
    }

    fn run(&self, arguments: &[&str], exits: i32) -> process::Ran {
        let mut persist = process::persist(arguments);
        // A width of its own, no colours, and a chart without Unicode: nothing of the tester's terminal.
        persist.current_dir(self.folder.path()).env("LC_ALL", "C");
        process::run(persist.env("COLUMNS", "120")).exits(exits)
    }

    /// Compares all that was told with what was seen when it was right.
    fn compare(self, name: &str) {
        compare(name, &self.told);
    }
}

fn compare(name: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("commands");
    settings.set_omit_expression(true);
    let day = "2026-11-01";
    for (pattern, shown) in [
        // What the day itself says stays; all else is of this run.
        (r"2026-11-01([T ])", "<day>$1"),
        (r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?Z?", "[now]"),
        (r"<day>([T ])", &format!("{day}$1")),
        (r"0190c2f4-0000-7000-8000-", "<job>"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[id]",
        ),
        ("<job>", "0190c2f4-0000-7000-8000-"),
        // An import applies some subjects beside others.
        (r#""seq":\d+"#, r#""seq":[number]"#),
        ("(SHA-256 |\"sha256\":\")[0-9a-f]{64}", "${1}[sum]"),
        (r#""latency_us":\d+"#, r#""latency_us":[µs]"#),
        (r"latency \S+ \S+", "latency [time]"),
        (r"SQLite \d+\.\d+\.\d+", "SQLite [version]"),
        (r#""cursor":"[^"]+""#, r#""cursor":"[cursor]""#),
        (r"\d+(\.\d+)? (updates|lines|slots)/s", "[rate]"),
        (r"\bin \d+(\.\d+)? (µs|ms|s)\b", "in [time]"),
        (r"\(\d+ a second\)", "([rate])"),
        (r"up to \S+ days later", "up to [span] later"),
    ] {
        settings.add_filter(pattern, shown);
    }
    settings.bind(|| insta::assert_snapshot!(name, told));
}

const ALL: [&str; 3] = ["table", "json", "jsonl"];

#[test]
fn lists() {
    let mut store = Store::new();
    store.tell(&["jobs"], &ALL, 0);
    store.tell(
        &["jobs", "--state", "queued,running", "--order", "oldest"],
        &ALL,
        0,
    );
    store.tell(&["jobs", "--limit", "2"], &["table"], 0);
    store.tell(&["jobs", "--state", "cancelled"], &ALL, 0);
    store.tell(&["vms"], &ALL, 0);
    store.tell(&["orphans", "--grace", "0s"], &ALL, 0);
    store.tell(&["refusals"], &ALL, 0);
    store.tell(
        &["refusals", "--job", "0190c2f4-0000-7000-8000-000000000002"],
        &ALL,
        0,
    );
    store.tell(&["artefacts"], &ALL, 0);
    store.compare("lists");
}

#[test]
fn one_job() {
    let mut store = Store::new();
    store.tell(&["job", ONE], &["table", "json"], 0);
    store.tell(&["job", ONE, "--at", "2026-11-01T08:00:30Z"], &["table"], 0);
    store.tell(&["job", "0190c2f4"], &["table"], 2);
    store.tell(&["job", "0290"], &["table"], 3);
    store.tell(&["job", "x"], &["table"], 2);
    store.compare("one_job");
}

#[test]
fn records() {
    let mut store = Store::new();
    store.tell(&["import", "day.jsonl"], &ALL, 0);
    store.tell(&["import", "day.jsonl", "--outcomes"], &["table"], 0);
    store.tell(&["record", "job", ONE, "succeeded"], &ALL, 0);
    store.tell(&["record", "job", ONE, "cancelled"], &ALL, 4);
    store.tell(
        &[
            "record",
            "job",
            ONE,
            "failed",
            "--attempt",
            "next",
            "--at",
            "2026-11-01T10:00:00Z",
        ],
        &ALL[..1],
        0,
    );
    store.tell(&["record", "vm", ONE, "vm-2", "prepared"], &["json"], 0);
    fs::write(
        store.folder.path().join("bad.jsonl"),
        "{\"job\":{\"request_id\":\"7\"}}\n",
    )
    .unwrap();
    store.tell(&["import", "bad.jsonl"], &["table", "json"], 1);
    store.tell(&["export"], &["table"], 0);
    store.compare("records");
}

#[test]
fn looks() {
    let mut store = Store::new();
    let day = [
        "--since",
        "2026-11-01T00:00:00Z",
        "--until",
        "2026-11-02T00:00:00Z",
    ];
    store.tell(
        &[&["stats"], &day[..], &["--by", "repo,runner"]].concat(),
        &ALL,
        0,
    );
    store.tell(&["verify"], &ALL, 0);
    store.tell(&["doctor"], &ALL, 0);
    store.tell(&["health"], &["table"], 0);
    store.tell(&["migrate", "status"], &ALL, 0);
    store.tell(&["migrate", "plan"], &["table"], 0);
    store.tell(&["migrate", "down", "--steps", "1"], &["table"], 2);
    store.tell(&["migrate", "down", "--steps", "1", "--yes"], &["table"], 0);
    store.tell(&["job", ONE], &["table"], 0);
    store.tell(&["doctor"], &ALL, 1);
    store.tell(&["refusals"], &["table"], 6);
    store.tell(&["migrate", "plan"], &["table"], 0);
    store.tell(&["migrate", "up"], &["table", "json"], 0);
    store.tell(&["verify", "--save", "day.digest"], &["table"], 0);
    store.tell(&["verify", "--against", "day.digest"], &ALL, 0);
    store.compare("looks");
}

#[test]
fn tidies() {
    let mut store = Store::new();
    store.tell(
        &[
            "recover",
            "--mark",
            "lost",
            "--reason",
            "host 7",
            "--grace",
            "0s",
            "--dry-run",
        ],
        &ALL,
        0,
    );
    store.tell(
        &["recover", "--mark", "lost", "--reason", "host 7", "--grace", "0s"],
        &["table"],
        0,
    );
    store.tell(&["prune", "--older-than", "0s", "--dry-run"], &ALL, 0);
    store.tell(&["prune", "--older-than", "0s"], &["table"], 2);
    store.tell(&["prune", "--older-than", "0s", "--yes"], &["table"], 0);
    store.tell(&["jobs"], &["table"], 0);
    store.compare("tidies");
}

#[test]
fn copies() {
    let mut store = Store::new();
    let (from, to) = ("sqlite://day.db", "sqlite://copy.db?mode=rwc");
    for format in ALL {
        let ran = store.run(&["--format", format, "copy", from, to], 0);
        store.told.push_str(&format!(
            "$ persist --format {format} copy {from} {to}\n{}",
            ran.stdout
        ));
    }
    let late = r#"{"job":{"request_id":"0190c2f4-0000-7000-8000-000000000004","state":"cancelled","at":"2026-11-01T09:40:00Z"}}"#;
    let other = late.replace("cancelled", "succeeded");
    for (file, line, url) in [
        ("late.jsonl", late, from),
        ("other.jsonl", &other, "sqlite://copy.db"),
    ] {
        fs::write(store.folder.path().join(file), line).unwrap();
        store.run(&["--database-url", url, "import", file], 0);
    }
    for format in ALL {
        let ran = store.run(&["--format", format, "copy", from, to], 4);
        store.told.push_str(&format!(
            "$ persist --format {format} copy {from} {to}\n{}(exit code 4)\n",
            ran.stdout
        ));
    }
    store.compare("copies");
}

/// The help of every command, which ends with an example.
#[test]
fn help() {
    let help = |command: &[&str]| {
        let asked = [command, &["--help"]].concat();
        process::run(process::persist(asked).env("COLUMNS", "100"))
            .ok()
            .stdout
    };
    let all = help(&[]);
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<_> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("     "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let mut commands: Vec<Vec<&str>> = names.iter().map(|name| vec![*name]).collect();
    for more in [
        "record job",
        "record vm",
        "migrate up",
        "migrate down",
        "migrate status",
        "migrate plan",
        "spool status",
        "spool list",
        "spool replay",
        "spool export",
        "spool discard-dead",
    ] {
        commands.push(more.split(' ').collect());
    }
    let mut told = format!("$ persist --help\n{all}\n");
    for command in commands {
        let text = help(&command);
        assert!(text.contains("Example"), "{command:?} has none:\n{text}");
        // The options that all have are told once.
        let own = text.split("Options of every command:").next().unwrap_or_default();
        let after = text.rsplit_once("Log errors only").map_or("", |(_, after)| after);
        told.push_str(&format!(
            "$ persist {} --help\n{}{after}\n",
            command.join(" "),
            own.trim_end()
        ));
    }
    compare("help", &told);
}
