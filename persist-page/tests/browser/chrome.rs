//! A browser without a window, and the little of its protocol that these tests need.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than anything takes on a busy machine, also the first start of a browser that was installed just now.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at what is waited for.
const GLANCE: Duration = Duration::from_millis(25);

/// Where systems have it.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// A process with one page, which ends with it.
pub(crate) struct Chrome {
    process: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the page.
    session: String,
    calls: u64,
    /// What the page complained of, since it was last asked.
    complaints: Vec<String>,
    profile: TempDir,
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("PERSIST_TEST_BROWSER") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path)
        .flat_map(|folder| PROGRAMS.map(|name| folder.join(name)))
        .filter(|file| file.is_file());
    found
        .next()
        .expect("no Chromium: install it (apt-get install chromium), or name one by PERSIST_TEST_BROWSER")
}

impl Chrome {
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let told = std::fs::File::create(profile.path().join(TOLD)).unwrap();
        let mut process = Command::new(program())
            .args([
                "--headless=new",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-port=0",
            ])
            // As root, and in containers, which have none of the namespaces or too small a shared memory.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(told)
            .spawn()
            .unwrap();
        let address = address(profile.path(), &mut process).await;
        let (socket, _) = connect_async(&address).await.unwrap();
        let mut chrome = Self {
            process,
            socket,
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            profile,
        };
        let page = chrome
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = chrome.call("Target.attachToTarget", attach).await;
        chrome.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chrome.call(&format!("{domain}.enable"), json!({})).await;
        }
        chrome.window(1_280, 900).await;
        chrome
    }

    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.ask(method, parameters)
            .await
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The answer, or what the browser says is wrong with the call.
    async fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let told = timeout(PATIENCE, self.socket.next()).await;
            let Ok(Some(Ok(told))) = told else {
                panic!(
                    "{method}: the browser is away: {told:?}; {}",
                    how_it_is(self.profile.path(), &mut self.process)
                )
            };
            let Message::Text(told) = told else { continue };
            let told: Value = serde_json::from_str(&told).unwrap();
            if told["id"] == json!(id) {
                let error = &told["error"];
                return if error.is_null() {
                    Ok(told["result"].clone())
                } else {
                    Err(error.clone())
                };
            }
            self.note(&told);
        }
    }

    /// Errors of the console, violations of the policy, and uncaught exceptions.
    fn note(&mut self, told: &Value) {
        let parameters = &told["params"];
        let complaint = match told["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled")
                if matches!(parameters["type"].as_str(), Some("error" | "warning")) =>
            {
                Some(parameters["args"].to_string())
            }
            Some("Log.entryAdded")
                if matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")) =>
            {
                Some(parameters["entry"].to_string())
            }
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// What the page complained of since the last time; asked of the page first, so that all of it has come.
    pub(crate) async fn complaints(&mut self) -> Vec<String> {
        self.eval("1").await;
        std::mem::take(&mut self.complaints)
    }

    pub(crate) async fn window(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn scheme(&mut self, scheme: &str) {
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", feature).await;
    }

    pub(crate) async fn scripts(&mut self, on: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !on }))
            .await;
    }

    /// Goes there, and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        let there = format!(
            "location.href === {} && document.readyState === 'complete'",
            json!(url)
        );
        self.until(&there).await;
    }

    /// The value of an expression.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let found = format!("document.querySelector({})?.innerText ?? ''", json!(selector));
        self.eval(&found).await.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true. A navigation under way may lose the answer of one look.
    pub(crate) async fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let asked = json!({ "expression": expression, "returnByValue": true });
            let answer = self.ask("Runtime.evaluate", asked).await;
            if answer
                .as_ref()
                .is_ok_and(|answer| answer["result"]["value"] == true)
            {
                return;
            }
            if Instant::now() >= end {
                let asked = json!({ "expression": "document.body.innerText", "returnByValue": true });
                let page = self.ask("Runtime.evaluate", asked).await;
                panic!("never true: {expression}: {answer:?}; the page says {page:?}");
            }
            sleep(GLANCE).await;
        }
    }

    pub(crate) async fn click(&mut self, selector: &str) {
        let click = format!("document.querySelector({}).click()", json!(selector));
        self.eval(&click).await;
    }

    /// Types into a field.
    pub(crate) async fn fill(&mut self, selector: &str, text: &str) {
        let fill = format!(
            "document.querySelector({}).value = {}",
            json!(selector),
            json!(text)
        );
        self.eval(&fill).await;
    }

    pub(crate) async fn key(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = if key == "Tab" { 9 } else { 13 };
            let pressed = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", pressed).await;
        }
    }

    /// A picture of the whole page into `PERSIST_TEST_PICTURES`, where that is set.
    pub(crate) async fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("PERSIST_TEST_PICTURES") else {
            return;
        };
        // The first of a long page is enough to look at.
        let height = self
            .eval("Math.min(document.documentElement.scrollHeight, 1600)")
            .await;
        let width = self.eval("document.documentElement.clientWidth").await;
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let taken = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.call("Page.captureScreenshot", taken).await;
        let picture = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the browser says of itself, in its profile.
const TOLD: &str = "told.log";

/// Whether it lives, and the last that it said.
fn how_it_is(profile: &Path, process: &mut Child) -> String {
    let told = std::fs::read_to_string(profile.join(TOLD)).unwrap_or_default();
    let last: Vec<_> = told.lines().rev().take(20).collect();
    format!(
        "it ended: {:?}; it said, the last first: {last:#?}",
        process.try_wait()
    )
}

/// Where the browser listens, which it writes into its profile.
async fn address(profile: &Path, process: &mut Child) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let told = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
        let mut lines = told.lines();
        if let (Some(port), Some(path)) = (lines.next(), lines.next()) {
            return format!("ws://127.0.0.1:{port}{path}");
        }
        let is_there = matches!(process.try_wait(), Ok(None));
        if !is_there || Instant::now() >= end {
            let how_it_is = how_it_is(profile, process);
            // An error: it has ended.
            let _ = process.kill();
            panic!("the browser never listened; {how_it_is}");
        }
        sleep(GLANCE).await;
    }
}
