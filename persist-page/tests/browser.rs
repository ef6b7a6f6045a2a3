//! The pages in a browser: as people see them, and as they change under their eyes.
#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

#[path = "browser/chrome.rs"]
mod chrome;
#[path = "browser/following.rs"]
mod following;
#[path = "browser/site.rs"]
mod site;

use chrome::Chrome;
use persist::{JobState, JobUpdate, OnUnavailable, Persist, VmState, VmUpdate};
use persist_page::Options;
use site::{BROKEN, HOSTILE, Site, id};

const NONE: [String; 0] = [];

/// Every page of a filled store.
fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("jobs", "/".to_owned()),
        ("filtered", "/?state=failed&state=lost&since=7d".to_owned()),
        ("job", format!("/jobs/{}", id(BROKEN))),
        ("refused", format!("/jobs/{}", id(57))),
        ("hostile", format!("/jobs/{}", id(HOSTILE))),
        ("vms", "/vms".to_owned()),
        ("orphans", "/orphans?grace=0s".to_owned()),
        ("stats", "/stats?since=7d&by=repo".to_owned()),
        ("health", "/health".to_owned()),
        ("lost", "/jobs/0190c2f4".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_walked_to_a_job() {
    let (site, mut chrome) = (Site::filled().await, Chrome::start().await);
    chrome.open(&site.at("/")).await;
    assert_eq!(
        chrome
            .eval("document.querySelectorAll('#list tbody tr').length")
            .await,
        50
    );
    assert!(
        chrome.text("#front").await.contains("5\nqueued"),
        "{}",
        chrome.text("#front").await
    );

    chrome.click("a[rel=next]").await;
    chrome
        .until("location.search.startsWith('?after=') && document.readyState === 'complete'")
        .await;
    assert_eq!(
        chrome
            .eval("document.querySelectorAll('#list tbody tr').length")
            .await,
        10
    );
    chrome.click("a[rel=first]").await;
    chrome
        .until("location.search === '' && document.readyState === 'complete'")
        .await;

    chrome.click("summary").await;
    chrome.click("input[value=failed]").await;
    chrome
        .fill("input[name=repo_url]", "https://git.example.org/acme/web.git")
        .await;
    chrome.click(".fields button").await;
    chrome
        .until("location.search.includes('state=failed') && document.readyState === 'complete'")
        .await;
    let states =
        "[...document.querySelectorAll('#list .state')].every(state => state.innerText === 'failed')";
    assert_eq!(chrome.eval(states).await, true);
    let rows = chrome
        .eval("document.querySelectorAll('#list tbody tr').length")
        .await;
    assert!(
        rows.as_u64().is_some_and(|rows| (1..=10).contains(&rows)),
        "{rows}"
    );
    let kept = chrome
        .eval("document.querySelector('input[name=repo_url]').value")
        .await;
    assert_eq!(kept, "https://git.example.org/acme/web.git");

    // From the field of an id to its page.
    chrome.fill("#find", &id(BROKEN).to_string()).await;
    chrome.click(".find button").await;
    chrome
        .until(&format!(
            "location.pathname === '/jobs/{}' && document.readyState === 'complete'",
            id(BROKEN)
        ))
        .await;
    assert_eq!(
        chrome
            .eval("document.querySelectorAll('svg.gantt rect').length")
            .await,
        8
    );
    let drawn = "[...document.querySelectorAll('svg.gantt rect')].every(bar => bar.getBoundingClientRect().width >= 1)";
    assert_eq!(chrome.eval(drawn).await, true);
    let chart = chrome
        .eval("document.querySelector('svg.gantt').textContent")
        .await
        .to_string();
    for told in ["job, attempt 1", "lost", "job, attempt 2", "hv-1-again"] {
        assert!(chart.contains(told), "{told}: {chart}");
    }
    assert!(chrome.text("#history").await.contains("host hv-2 lost power"));
    assert_eq!(chrome.complaints().await, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_seen_without_a_reload() {
    let (site, mut chrome) = (Site::empty().await, Chrome::start().await);
    chrome.open(&site.at("/")).await;
    assert!(chrome.text("#list").await.contains("The store is empty"));
    chrome.picture("empty").await;
    chrome
        .until("document.getElementById('live').dataset.live === 'on'")
        .await;
    chrome.eval("window.same = true").await;

    let job = |state| JobUpdate::new(id(1), state);
    site.record(job(JobState::Queued).repo_url("https://git.example.org/acme/web.git"))
        .await;
    chrome
        .until("document.querySelector('#list .state')?.innerText === 'queued'")
        .await;
    chrome
        .until("document.querySelector('.tile.waits b').innerText === '1'")
        .await;
    site.record(job(JobState::Running)).await;
    chrome
        .until("document.querySelector('#list .state')?.innerText === 'running'")
        .await;
    assert_eq!(chrome.eval("window.same").await, true, "it was not loaded anew");

    chrome.open(&site.at(&format!("/jobs/{}", id(1)))).await;
    chrome
        .until("document.getElementById('live').dataset.live === 'on'")
        .await;
    chrome.eval("window.same = true").await;
    // Of another job: nothing to look at.
    site.record(JobUpdate::new(id(2), JobState::Queued)).await;
    site.record(VmUpdate::new(id(1), "vm-7", VmState::Running)).await;
    chrome
        .until("document.querySelector('#vms')?.innerText.includes('vm-7')")
        .await;
    site.record(job(JobState::Succeeded)).await;
    chrome
        .until("document.querySelector('h1 .state').innerText === 'succeeded'")
        .await;
    assert_eq!(chrome.eval("window.same").await, true, "it was not loaded anew");
    assert_eq!(chrome.complaints().await, NONE);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_never_an_empty_list() {
    let mut chrome = Chrome::start().await;
    // Away from the start, and back: the page comes by itself.
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rw", folder.path().join("ci.db").display());
    let away = Persist::builder(Some(url.clone()))
        .migrate(false)
        .on_unavailable(OnUnavailable::BestEffort);
    let site = Site::over(away.connect().await.unwrap()).await;
    chrome.open(&site.at("/")).await;
    assert_eq!(chrome.text("h1").await, "The store can't be read");
    let cause = chrome.text(".cause").await;
    assert!(
        cause.contains("there is no file") && cause.contains("persist migrate up"),
        "{cause}"
    );
    assert_eq!(
        chrome.eval("document.querySelector('#list')").await,
        serde_json::Value::Null
    );
    chrome.picture("away").await;
    let made = Persist::builder(Some(url.replace("mode=rw", "mode=rwc")))
        .connect()
        .await
        .unwrap();
    made.record_job_state(JobUpdate::new(id(1), JobState::Running))
        .await
        .unwrap();
    chrome
        .until("document.querySelector('#list .state')?.innerText === 'running'")
        .await;
    site.end().await;

    // Away under an open page: what it shows stays, and it says that it is of before.
    let site = Site::empty().await;
    site.record(JobUpdate::new(id(1), JobState::Running)).await;
    chrome.open(&site.at("/")).await;
    chrome
        .until("document.getElementById('live').dataset.live === 'on'")
        .await;
    site.persist.close().await.unwrap();
    chrome
        .until("document.getElementById('live').dataset.live === 'off'")
        .await;
    assert_eq!(chrome.text("#list .state").await, "running");
    chrome.open(&site.at("/vms")).await;
    assert_eq!(chrome.text("h1").await, "The store can't be read");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_sound_in_both_schemes_and_on_a_telephone() {
    let (site, mut chrome) = (Site::filled().await, Chrome::start().await);
    let mut papers = Vec::new();
    for (name, path) in pages() {
        for (scheme, width) in [("light", 1_280), ("dark", 1_280), ("light", 360), ("dark", 360)] {
            chrome.window(width, 900).await;
            chrome.scheme(scheme).await;
            chrome.open("about:blank").await;
            chrome.open(&site.at(&path)).await;
            let over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(
                chrome.eval(over).await,
                0,
                "{name} at {width} is wider than its window"
            );
            let apart = "[...document.querySelectorAll('.gantt .line')].every((line) => {
                const told = line.nextElementSibling.getBoundingClientRect();
                return !told.width || line.getBoundingClientRect().right <= told.left;
            })";
            assert_eq!(
                chrome.eval(apart).await,
                true,
                "{name} at {width} has texts over each other"
            );
            assert_eq!(
                chrome.eval("window.broken").await,
                serde_json::Value::Null,
                "{name} ran a text of the store"
            );
            let paper = chrome
                .eval("getComputedStyle(document.documentElement).backgroundColor")
                .await;
            papers.push((scheme, paper.to_string()));
            chrome.picture(&format!("{name}-{scheme}-{width}")).await;
            let complaints = chrome.complaints().await;
            // The browser tells of the status of the page itself.
            assert!(name == "lost" || complaints.is_empty(), "{name}: {complaints:?}");
        }
    }
    papers.sort();
    papers.dedup();
    assert_eq!(papers.len(), 2, "one paper for each scheme: {papers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_holds_is_text() {
    let (site, mut chrome) = (Site::filled().await, Chrome::start().await);
    for path in [
        format!("/jobs/{}", id(HOSTILE)),
        "/?limit=5".to_owned(),
        "/vms?limit=5".to_owned(),
    ] {
        chrome.open(&site.at(&path)).await;
        let body = chrome.text("main").await;
        assert!(
            body.contains("<script>window.broken = true</script>"),
            "{path} shows it"
        );
        assert!(body.contains("\\u{202e}\\u{1b}[31m"), "{path} spells it out");
        assert!(!body.contains('\u{202e}') && !body.contains('\u{1b}'), "{path}");
        assert_eq!(chrome.eval("window.broken").await, serde_json::Value::Null);
        let links = "[...document.querySelectorAll('a')].every(a => /^https?:$/.test(a.protocol))";
        assert_eq!(chrome.eval(links).await, true, "{path}");
        assert_eq!(chrome.complaints().await, NONE, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_by_keys_and_without_scripts() {
    let persist = site::memory().await;
    site::fill(&persist).await;
    // None for whom a stream is left: the page says so.
    let site = Site::with(persist, Options::default().subscribers(0)).await;
    let mut chrome = Chrome::start().await;
    chrome.open(&site.at("/")).await;
    chrome.key("Tab").await;
    assert_eq!(chrome.eval("document.activeElement.className").await, "skip");
    let shown = "document.activeElement.getBoundingClientRect().left >= 0";
    assert_eq!(chrome.eval(shown).await, true);
    chrome
        .until("document.getElementById('live').dataset.live === 'off'")
        .await;
    let unlabelled = "[...document.querySelectorAll('input')].filter(input => !input.labels.length && !input.ariaLabel).length";
    assert_eq!(chrome.eval(unlabelled).await, 0);

    chrome.scripts(false).await;
    for (name, path) in pages() {
        chrome.open(&site.at(&path)).await;
        assert!(!chrome.text("main").await.trim().is_empty(), "{name}");
        assert!(!chrome.text("#live").await.is_empty(), "{name}");
    }
    site.end().await;
}
