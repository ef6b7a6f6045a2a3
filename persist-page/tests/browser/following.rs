//! How an open page goes on, and what it says of that.

use std::sync::Arc;
use std::time::Duration;

use persist::layer::{Fault, Faults, Faulty};
use persist::{FixedClock, JobState, JobUpdate, OnUnavailable, Persist, PersistBackend, Prune, open};
use persist_page::Options;
use serde_json::json;

use crate::chrome::Chrome;
use crate::site::{self, Site, id};

/// Keeps what the page said of itself, and the streams that it opened.
const NOTES: &str = "
    window.said = []; window.streams = [];
    const note = (changes) => changes.forEach((change) => said.push(change.target.dataset.live));
    new MutationObserver(note).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-live'] });
    window.EventSource = class extends EventSource {
        constructor(url) { super(url); streams.push(this); }
    };
    window.hide = (hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    };
    window.looks = () => performance.getEntriesByType('resource').filter((entry) => entry.initiatorType === 'fetch').length;";

async fn noting() -> Chrome {
    let mut chrome = Chrome::start().await;
    let notes = json!({ "source": NOTES });
    chrome.call("Page.addScriptToEvaluateOnNewDocument", notes).await;
    chrome
}

fn often() -> Options {
    Options::default().look_every(Duration::from_millis(100))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_under_an_open_stream_is_told() {
    let driver = open(&"memory:".parse().unwrap(), &persist::OpenOptions::default())
        .await
        .unwrap();
    // Some looks find the store, then some do not. Changes are asked for all the time, and meet no faults.
    let faults = (10..40).fold(Faults::default(), |faults, call| {
        faults.at(call, Fault::FailBefore)
    });
    let faulty: Arc<dyn PersistBackend> = Arc::new(Faulty::new(driver, faults));
    let persist = Persist::builder_over(faulty).on_unavailable(OnUnavailable::BestEffort);
    let site = Site::with(persist.connect().await.unwrap(), often()).await;
    let mut chrome = noting().await;
    chrome.open(&site.at("/")).await;
    chrome.until("said.includes('on') && said.includes('off')").await;
    // And back, without a new stream.
    chrome.until("said.at(-1) === 'on'").await;
    let is_one = "streams.length === 1 && streams[0].readyState === EventSource.OPEN";
    assert_eq!(chrome.eval(is_one).await, true);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_a_stream_is_not_live() {
    let site = Site::with(site::memory().await, Options::default().subscribers(0)).await;
    let mut chrome = noting().await;
    chrome.open(&site.at("/")).await;
    // Over the first retry, with its look.
    chrome.until("streams.length > 1 && looks() > 0").await;
    chrome
        .until("said.filter((state) => state === 'off').length > 1")
        .await;
    assert_eq!(chrome.eval("said.includes('on')").await, false);
    let why = chrome.text("#live").await;
    assert!(why.starts_with("Not live: 0 live streams are open"), "{why}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_sees_what_is_there_and_goes_on_from_there() {
    // No look of its own, however slow the machine is.
    let seldom = Options::default().look_every(Duration::from_secs(3_600));
    let site = Site::with(site::memory().await, seldom).await;
    let mut chrome = noting().await;
    chrome.open(&site.at("/")).await;
    chrome.until("said.at(-1) === 'on'").await;
    chrome.eval("hide(true)").await;
    assert_eq!(chrome.eval("streams[0].readyState").await, 2);
    site.record(JobUpdate::new(id(1), JobState::Running)).await;
    chrome.eval("hide(false)").await;
    chrome
        .until("document.querySelector('#list .state')?.innerText === 'running'")
        .await;
    chrome.until("said.at(-1) === 'on'").await;
    assert_eq!(chrome.eval("looks()").await, 1, "it looked first");
    let is_elsewhere = "streams.length === 2 && streams[1].url !== streams[0].url";
    assert_eq!(chrome.eval(is_elsewhere).await, true);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_more_is_followed_no_more() {
    let site = Site::with(site::memory().await, often()).await;
    site.record(JobUpdate::new(id(1), JobState::Succeeded)).await;
    let mut chrome = noting().await;
    chrome.open(&site.at(&format!("/jobs/{}", id(1)))).await;
    chrome.until("said.at(-1) === 'on'").await;
    let of_one = Prune::default().ids([id(1)]);
    site.persist.prune(&of_one).await.unwrap();
    chrome
        .until("document.getElementById('live').innerText.startsWith('No longer live: no job')")
        .await;
    assert_eq!(chrome.eval("streams.at(-1).readyState").await, 2);
    assert!(!chrome.text("#history").await.is_empty(), "what was shown stays");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_are_told_by_the_clock_of_the_server() {
    let persist = site::memory().await;
    site::fill(&persist).await;
    let site = Site::with(persist, often().clock(Arc::new(FixedClock(site::now())))).await;
    let mut chrome = noting().await;
    chrome.open(&site.at("/")).await;
    chrome.until("looks() > 1").await;
    let ages = chrome.text("#list").await;
    assert!(ages.contains("min ago") && !ages.contains(" d ago"), "{ages}");
    site.end().await;
}
