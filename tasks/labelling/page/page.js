// The page of one annotator. It sends an answer, keeps it until it is on the server's disk, and shows the next item.
"use strict";
(() => {
  const LONGEST_PAUSE = 15; // seconds between two attempts to save
  const PATIENCE = 20_000; // milliseconds until a request counts as lost
  const TOKEN = /^[\w.~-]{16,}$/; // a personal link's fragment; a link within the page is shorter
  const KEPT = "unsaved answer";
  const $ = (id) => document.getElementById(id);

  function say(text, { unsaved = false } = {}) {
    const state = $("state");
    state.textContent = text;
    state.classList.toggle("unsaved", unsaved);
  }

  // what is kept over a reload of this tab, where the browser allows it
  function keep(name, value) {
    try {
      if (value === null) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, JSON.stringify(value));
    } catch { /* then it is not kept */ }
  }
  function kept(name) {
    try {
      return JSON.parse(sessionStorage.getItem(name));
    } catch {
      return null;
    }
  }

  async function post(path, body) {
    const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";
    const reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const told = await reply.json();
    return { status: reply.status, told };
  }

  const pauseAfter = (tries) => Math.min(LONGEST_PAUSE, 2 ** (tries - 1));

  // a page of the server's own, such as one that tells that a link has expired; all text in it was escaped there
  function showDoor(html) {
    const page = new DOMParser().parseFromString(html, "text/html");
    document.title = page.title;
    document.body.className = "at-door";
    document.body.replaceChildren(document.adoptNode(page.querySelector("main")));
  }

  // --- the personal link ------------------------------------------------------------------------------------------------

  async function enter() {
    const token = location.hash.slice(1);
    if (!TOKEN.test(token)) return false;
    history.replaceState(null, "", location.pathname); // nobody reads it off the screen or out of the address bar
    say("Opening your link …");
    for (let tries = 1; ; tries++) {
      try {
        const { status, told } = await post("/session", { token });
        if (status === 200) location.replace("/");
        else if (told.page) showDoor(told.page);
        else say(told.error);
        return true;
      } catch {
        say("The server does not answer. Your link is tried again.");
        await new Promise((done) => setTimeout(done, 1000 * pauseAfter(tries)));
      }
    }
  }
  window.addEventListener("hashchange", enter);

  // --- the item ---------------------------------------------------------------------------------------------------------

  let watch = { since: performance.now(), before: 0 }; // the time that the item could be seen
  const seconds = () => (watch.before + (document.hidden ? 0 : performance.now() - watch.since)) / 1000;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) watch.before += performance.now() - watch.since;
    else watch.since = performance.now();
  });

  let pending = null; // {path, body, tries, timer}: one thing at a time is sent, again and again until it is saved
  let places = []; // of a ranking: groups of answers, best first
  let isEqualNext = false;
  const turn = () => $("item").dataset.turn;
  const count = () => Number($("item").dataset.count);

  function refresh() {
    const isBusy = pending !== null || turn() === "";
    for (const button of document.querySelectorAll(".choice, .place, #skip")) button.disabled = isBusy;
    $("undo").disabled = pending !== null;
    $("again").hidden = !pending?.timer;
    if (document.body.dataset.kind === "ranking") showPlaces(isBusy);
  }

  function show({ html, said }) {
    const part = new DOMParser().parseFromString(html, "text/html");
    for (const id of ["progress", "item"]) $(id).replaceWith(document.adoptNode(part.getElementById(id)));
    document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
    watch = { since: performance.now(), before: 0 };
    places = [];
    isEqualNext = false;
    window.scrollTo(0, 0);
    say(said);
  }

  function send(path, body) {
    if (pending) return;
    pending = { path, body, tries: 0, timer: 0 };
    if (path !== "/api/undo") keep(KEPT, { path, body });
    refresh();
    attempt();
  }

  function settle() {
    clearTimeout(pending.timer);
    pending = null;
    keep(KEPT, null);
  }

  async function attempt() {
    const current = pending;
    clearTimeout(current.timer);
    current.timer = 0;
    current.tries++;
    let trouble;
    try {
      const { status, told } = await post(current.path, current.body);
      if (told.html !== undefined) {
        settle();
        show(told);
        return refresh();
      }
      if (told.page !== undefined) {
        settle();
        return showDoor(told.page);
      }
      trouble = told.error ?? `The server answered ${status}.`;
      if (status < 500) { // the same again would be refused again
        settle();
        document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
        say(`Not saved: ${trouble}`, { unsaved: true });
        return refresh();
      }
    } catch {
      trouble = "The server does not answer.";
    }
    const what = current.path === "/api/answer" ? "Your answer" : "What you said";
    say(`Not saved: ${trouble} ${what} is kept here and sent again until it is saved.`, { unsaved: true });
    current.timer = setTimeout(attempt, 1000 * pauseAfter(current.tries));
    refresh();
  }
  const sendNow = () => { if (pending?.timer) attempt(); };

  function answer(choice, button) {
    if (pending || turn() === "") return;
    button?.classList.add("chosen");
    send("/api/answer", { turn: turn(), choice, seconds: seconds() });
  }

  // --- a ranking --------------------------------------------------------------------------------------------------------

  const placed = () => places.flat().length;

  function place(number) {
    if (pending || number > count() || places.flat().includes(number)) return;
    if (isEqualNext && places.length) places[places.length - 1].push(number);
    else places.push([number]);
    isEqualNext = false;
    refresh();
    say(`Answer ${number} has place ${places.length}; ${count() - placed()} left.`);
  }

  function takeBack() {
    if (pending || !places.length) return;
    const last = places[places.length - 1];
    const number = last.pop();
    if (!last.length) places.pop();
    isEqualNext = false;
    refresh();
    say(`Answer ${number} has no place any more.`);
  }

  function saveOrder() {
    if (placed() < count()) return say(`${count() - placed()} answers have no place yet.`);
    const ranks = Array.from({ length: count() }, (_, at) => 1 + places.findIndex((group) => group.includes(at + 1)));
    answer(ranks, $("save"));
  }

  function showPlaces(isBusy) {
    for (const card of document.querySelectorAll(".answer")) {
      const number = Number(card.dataset.number);
      const rank = 1 + places.findIndex((group) => group.includes(number));
      const isShared = rank > 0 && places[rank - 1].length > 1;
      const button = card.querySelector(".place");
      card.classList.toggle("placed", rank > 0);
      button.classList.toggle("chosen", rank > 0);
      button.querySelector("span").textContent = rank ? `place ${rank}${isShared ? ", equal" : ""}` : "next place";
      button.setAttribute("aria-label", rank ? `Answer ${number}: place ${rank}` : `Answer ${number}: no place yet. Give it the next one`);
    }
    $("equal").setAttribute("aria-pressed", String(isEqualNext));
    $("equal").disabled = isBusy || !places.length || placed() === count();
    $("back").disabled = isBusy || !places.length;
    $("save").disabled = isBusy || placed() < count();
  }

  // --- keys and buttons -------------------------------------------------------------------------------------------------

  function press(button) {
    if (button.disabled) return;
    if (button.dataset.choice) return answer(Number(button.dataset.choice), button);
    if (button.dataset.place) return place(Number(button.dataset.place));
    switch (button.id) {
      case "skip": return send("/api/skip", { turn: turn() });
      case "undo": return send("/api/undo", { turn: turn() });
      case "again": return sendNow();
      case "help": return $("instructions").showModal();
      case "marks": return mark($("marks").getAttribute("aria-pressed") !== "true");
      case "equal": isEqualNext = !isEqualNext; return refresh();
      case "back": return takeBack();
      case "save": return saveOrder();
    }
  }

  function mark(isOn) {
    $("marks")?.setAttribute("aria-pressed", String(isOn));
    document.body.classList.toggle("without-marks", !isOn);
    keep("marks", isOn);
  }

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || $("instructions").open) return;
    // Enter and the space bar press the button that has the focus, as everywhere
    if (event.key === "Enter" && event.target.closest("button, a")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isPlace = document.body.dataset.kind === "ranking" && /^[1-9]$/.test(key);
    const button = isPlace
      ? document.querySelector(`.place[data-place="${key}"]`)
      : [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    if (!button) return;
    event.preventDefault();
    press(button);
  }

  async function begin() {
    if (await enter() || !document.body.classList.contains("at-work")) return;
    document.addEventListener("keydown", onKey);
    document.addEventListener("click", (event) => {
      const button = event.target.closest("button[type=button]");
      if (!button) return;
      if (event.detail > 0) button.blur(); // by a pointer: what is pressed on the keyboard next is not for this button
      press(button);
    });
    window.addEventListener("online", sendNow);
    mark(kept("marks") !== false);
    refresh();
    const unsaved = kept(KEPT); // this tab was loaded anew before its answer was saved
    if (unsaved?.body.turn && unsaved.body.turn === turn()) send(unsaved.path, unsaved.body);
    else keep(KEPT, null);
  }
  begin();
})();
