// Follows the store: when something changed, the page is asked for anew and its parts are put in the place of the old ones.
// Without this file a page shows the same, as of when it was loaded.
"use strict";

(() => {
  const told = document.getElementById("live");
  const between = 1000; // Milliseconds between two looks, however much changes.
  let last = 0, timer = 0, asking = false, again = false;

  const say = (state, text) => {
    told.dataset.live = state;
    if (told.textContent !== text) told.textContent = text;
  };
  const clock = () => new Date().toISOString().slice(11, 19);

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const ago = (iso) => {
    const seconds = Math.floor((Date.now() - Date.parse(iso)) / 1000);
    const [size, unit] = units.find(([size]) => Math.abs(seconds) >= size) ?? units[3];
    const text = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const age = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const text = ago(time.dateTime);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(age, 10000);

  const versions = (part) => {
    const rows = part.querySelectorAll("tr[data-row]");
    return new Map(Array.from(rows, (row) => [row.dataset.row, row.dataset.version]));
  };

  // Puts a part in, marks the rows that are new or changed, and leaves the focus where it was.
  const replace = (old, part) => {
    if (old.innerHTML === part.innerHTML) return;
    const before = versions(old);
    const held = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part = document.adoptNode(part);
    old.replaceWith(part);
    for (const [row, version] of versions(part)) {
      if (before.get(row) !== version) part.querySelector(`tr[data-row="${CSS.escape(row)}"]`).classList.add("fresh");
    }
    if (held) part.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };

  const look = async () => {
    timer = 0;
    if (asking) { again = true; return; }
    asking = true;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) {
        for (const part of page.querySelectorAll("[data-part]")) {
          const old = document.getElementById(part.id);
          if (old) replace(old, part);
        }
        age();
        say("on", `Live; last change seen at ${clock()}.`);
      } else {
        const cause = page.querySelector(".cause")?.textContent ?? answer.statusText;
        say("off", `The store can't be read (${cause}). What is shown was so before.`);
        soon(5000);
      }
    } catch {
      say("off", "This server does not answer. What is shown was so before.");
      soon(5000);
    }
    asking = false;
    if (again) { again = false; soon(between); }
  };
  const soon = (wait) => {
    if (!timer) timer = setTimeout(look, wait);
  };

  const from = document.body.dataset.live;
  if (!from) return;
  let place = from, tries = 0, stream = null, waiting = 0;
  const leave = () => {
    clearTimeout(timer);
    clearTimeout(waiting);
    timer = waiting = 0;
    stream?.close();
    stream = null;
  };
  const follow = () => {
    const own = stream = new EventSource(place);
    stream.onopen = () => { tries = 0; say("on", "Live."); };
    stream.addEventListener("changed", (event) => {
      const url = new URL(from, location.href);
      url.searchParams.set("after", event.lastEventId);
      place = url.pathname + url.search;
      soon(Math.max(0, last + between - Date.now()));
    });
    // What came meanwhile was pruned: this page is of another time.
    stream.addEventListener("lagged", () => { leave(); location.reload(); });
    stream.addEventListener("failed", () => { own.close(); retry(); });
    stream.onerror = () => {
      if (own.readyState === EventSource.CLOSED) retry();
      else say("wait", "Not live: connecting again.");
    };
  };
  const retry = () => {
    tries += 1;
    const wait = Math.min(60, 3 * 2 ** tries);
    say("off", `Not live: no stream to be had; trying again in ${wait} s.`);
    waiting = setTimeout(() => { follow(); soon(0); }, wait * 1000);
  };
  // A browser has six connections for one server, and a page that nobody sees must not hold one of them.
  const attend = () => {
    leave();
    if (document.hidden) return say("wait", "Not live while nobody looks.");
    say("wait", "Connecting.");
    follow();
  };
  document.addEventListener("visibilitychange", attend);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) attend(); });
  attend();
})();
