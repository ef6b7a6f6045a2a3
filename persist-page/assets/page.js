// Follows the store: when something changed, the page is asked for anew and its parts are put in the place of the old ones.
// Without this file a page shows the same, as of when it was loaded.
"use strict";

(() => {
  const told = document.getElementById("live");
  const between = 1000; // Milliseconds between two looks, however much changes.
  const answered = 15000; // A look that takes longer has failed.
  const now = () => performance.now(); // Whatever happens to the clock.

  const say = (state, text) => {
    told.dataset.live = state;
    if (told.textContent !== text) told.textContent = text;
  };

  // The server's clock made the times of the page; this machine's may go wrong.
  let ahead = 0;
  const clocked = (page) => {
    const made = Date.parse(page.body.dataset.made);
    if (!Number.isNaN(made)) ahead = made - Date.now();
  };
  clocked(document);
  const clock = () => new Date(Date.now() + ahead).toISOString().slice(11, 19);

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const ago = (iso) => {
    let seconds = Math.floor((Date.now() + ahead - Date.parse(iso)) / 1000);
    if (seconds < 0 && seconds > -60) seconds = 0; // The clocks of two servers, and nothing to come.
    const [size, unit] = units.find(([size]) => Math.abs(seconds) >= size) ?? units[3];
    const text = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const age = (page) => {
    for (const time of page.querySelectorAll("time[data-ago]")) {
      const text = ago(time.dateTime);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(() => age(document), 10000);

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

  const from = document.body.dataset.live;
  if (!from) return;
  // The stream stays open while the store is away, and time alone changes a page too: so it also looks by itself.
  const period = Number(document.body.dataset.look) || 20000;
  const after = Math.min(5000, period); // Milliseconds to the next look after one that failed.
  let round = 0, asking = false, again = false, fine = true; // Of looks; another round lets go of what the last one asked.
  let last = -between, timer = 0, due = 0; // When one began, and when the next one does.
  let full = document.body.dataset.full; // Why there may be no stream.
  let stream = null, tries = 0, seen = ""; // What tells of changes, and the time of the last one.

  const soon = (wait) => {
    if (timer && due <= now() + wait) return;
    clearTimeout(timer);
    due = now() + wait;
    timer = setTimeout(look, wait);
  };
  const live = () => {
    if (!fine || stream?.readyState !== EventSource.OPEN) return;
    say("on", seen ? `Live; last change seen at ${seen}.` : "Live.");
  };
  const lost = (text) => {
    fine = false;
    say("off", `${text} What is shown was so before.`);
  };

  const ask = async () => {
    try {
      const asked = { headers: { accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(answered) };
      const answer = await fetch(location.href, asked);
      return [answer, new DOMParser().parseFromString(await answer.text(), "text/html")];
    } catch {
      return null;
    }
  };
  const show = (page) => {
    clocked(page);
    age(document);
    age(page); // What differs by its age alone is left in its place.
    for (const part of page.querySelectorAll("[data-part]")) {
      const old = document.getElementById(part.id);
      if (old) replace(old, part);
    }
    if (!fine && !stream) say("wait", "Connecting.");
    fine = true;
    // A place of before may be far back, or of a store that was replaced: it goes on where this page was made.
    full = page.body.dataset.full;
    const place = page.body.dataset.live;
    if (!stream && place) follow(place);
    live();
    return stream ? period : after;
  };
  // The time to the next look; 0 for none: asking again does not help.
  const refused = (answer, page) => {
    const cause = page.querySelector(".cause")?.textContent ?? (answer.statusText || `status ${answer.status}`);
    const final = answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status);
    if (final) leave();
    const heading = page.querySelector(".lost h1")?.textContent ?? "There is no page";
    lost(final ? `No longer live: ${cause}.` : `${heading} (${cause}).`);
    return final ? 0 : after;
  };
  const look = async () => {
    timer = 0;
    if (asking) { again = true; return; }
    const own = round;
    asking = true;
    last = now();
    const got = await ask();
    if (own !== round) return;
    asking = false;
    let wait = after;
    if (!got) lost("This server does not answer.");
    else if (got[0].ok) wait = show(got[1]);
    else wait = refused(...got);
    if (wait) soon(again ? between : wait);
    again = false;
  };

  const leave = () => {
    clearTimeout(timer);
    timer = 0;
    round += 1;
    asking = again = false;
    stream?.close();
    stream = null;
  };
  const follow = (place) => {
    const own = stream = new EventSource(place);
    own.onopen = () => { tries = 0; live(); };
    own.addEventListener("changed", () => {
      seen = clock();
      soon(Math.max(0, last + between - now()));
    });
    // What came meanwhile was pruned: this page is of another time.
    own.addEventListener("lagged", () => retry("wait"));
    own.addEventListener("failed", () => retry("off"));
    own.onerror = () => retry(own.readyState === EventSource.CLOSED ? "off" : "wait");
  };
  // The browser would come again by itself, at the old place. A look comes first, and follows from where it was.
  const retry = (state) => {
    leave();
    const wait = Math.min(60, 3 * 2 ** tries);
    tries += 1;
    if (fine) say(state, state === "off" ? `Not live: ${full || "no stream to be had"}; trying again in ${wait} s.` : "Not live: connecting again.");
    soon(wait * 1000);
  };
  // A browser has six connections for one server, and a page that nobody sees must not hold one of them.
  const attend = () => {
    leave();
    if (document.hidden) return say("wait", "Not live while nobody looks.");
    say("wait", "Connecting.");
    soon(0);
  };
  document.addEventListener("visibilitychange", attend);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) attend(); });
  if (document.hidden) return attend();
  say("wait", "Connecting.");
  follow(from); // This page was made just now.
  soon(period);
})();
