/* What a board's page does in a browser: sorting (by simple-datatables), filters that live in the address, light and dark, the
   protocol of a column on hover and focus. Nothing is drawn and nothing is loaded here; without this file the pages are whole. */
(function () {
  "use strict";
  var root = document.documentElement;

  // Light and dark: the system's choice, until the reader makes one.
  var toggle = document.getElementById("theme");
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches; }
  function showTheme() {
    toggle.setAttribute("aria-pressed", String(isDark()));
  }
  if (toggle) {
    toggle.hidden = false;
    showTheme();
    dark.addEventListener("change", showTheme);
    toggle.addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("faithface-theme", root.dataset.theme); } catch (error) { /* a page of its own keeps none */ }
      showTheme();
    });
  }

  // On paper nothing can be opened: all that is folded is printed, and folded again after.
  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    folded.forEach(function (one) { one.open = true; });
  });
  window.addEventListener("afterprint", function () { folded.forEach(function (one) { one.open = false; }); folded = []; });

  // A column's protocol. It is placed by its column, but on the page, so that no scrolling box cuts it.
  var open = null;
  function closeTip() { if (open) { open.classList.remove("open"); open = null; } }
  function openTip(head) {
    closeTip();
    open = head.querySelector(".tip");
    if (!open) { return; }
    open.classList.add("open");
    var box = head.getBoundingClientRect();
    var left = Math.min(Math.max(12, box.right - open.offsetWidth), window.innerWidth - open.offsetWidth - 12);
    var below = box.bottom + open.offsetHeight + 8 < window.innerHeight || box.top < open.offsetHeight + 8;
    open.style.left = left + "px";
    open.style.top = (below ? box.bottom + 4 : box.top - open.offsetHeight - 4) + "px";
  }
  function headOf(event) { return event.target.closest ? event.target.closest("th.tipped") : null; }
  document.addEventListener("mouseover", function (event) {
    var head = headOf(event);
    if (head) { if (!open || !head.contains(open)) { openTip(head); } } else { closeTip(); }
  });
  document.addEventListener("focusin", function (event) { var head = headOf(event); if (head) { openTip(head); } else { closeTip(); } });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { closeTip(); } });
  window.addEventListener("scroll", closeTip, true);

  // Sorting. The order of the page is kept, to return to it.
  var tables = {};
  function makeTable(element) {
    if (tables[element.id]) { return tables[element.id]; }
    var made = new window.simpleDatatables.DataTable(element, {
      paging: false, searchable: false, fixedColumns: false, fixedHeight: false, destroyable: false,
      template: function (options) { return "<div class='" + options.classes.container + "'></div>"; },
      rowRender: function (row, tr) { tr.childNodes[0].nodeName = "TH"; return tr; }
    });
    var entry = { table: made, order: made.data.data.slice(), by: null };
    tables[element.id] = entry;
    made.on("datatable.sort", function (column, direction) {
      entry.by = column + "." + direction;
      if (!applying) {
        state.sort = element.id + "." + entry.by;
        remember(true);
      }
      showRows(document);
    });
    return entry;
  }
  function sortAsStated() {
    var parts = (state.sort || "").split(".");
    Object.keys(tables).forEach(function (id) {
      if (id !== parts[0] && tables[id].by) { unsort(tables[id]); }
    });
    var element = parts.length === 3 ? document.getElementById(parts[0]) : null;
    var column = parseInt(parts[1], 10);
    if (!element || element.nodeName !== "TABLE" || !(column >= 0) || (parts[2] !== "asc" && parts[2] !== "desc")) { return; }
    var entry = makeTable(element);
    if (column < entry.table.data.headings.length && entry.by !== column + "." + parts[2]) {
      entry.table.columns.sort(column, parts[2]);
    }
  }
  function unsort(entry) {
    entry.by = null;
    entry.table.data.data = entry.order.slice();
    entry.table.columns._state.sort = undefined;
    entry.table.update();
  }

  // Filters. What is chosen stands in the address, so that it can be sent to somebody, and so that "back" undoes it.
  var form = document.getElementById("filters");
  var count = document.getElementById("count");
  var KEYS = ["task", "table", "family", "uses", "cost", "name", "sort"];
  var state = {};
  var applying = false;
  function read() {
    var given = new URLSearchParams(location.hash.indexOf("=") > 0 ? location.hash.slice(1) : "");
    state = {};
    KEYS.forEach(function (key) { if (given.get(key)) { state[key] = given.get(key); } });
  }
  function address() {
    var said = new URLSearchParams();
    KEYS.forEach(function (key) { if (state[key]) { said.set(key, state[key]); } });
    return said.toString();
  }
  function remember(isNew) {
    var text = address();
    var target = text ? "#" + text : location.pathname + location.search;
    if (("#" + text) === location.hash || (!text && !location.hash)) { return; }
    history[isNew ? "pushState" : "replaceState"](null, "", target);
  }
  function showRows(within) {
    var name = (state.name || "").toLowerCase();
    var cost = parseFloat(state.cost);
    within.querySelectorAll("table.board tr[data-name]").forEach(function (row) {
      var data = row.dataset;
      var hidden = name !== "" && data.name.indexOf(name) < 0;
      // Controls stay beside whatever is chosen: they say what its numbers mean.
      if (!row.classList.contains("control")) {
        hidden = hidden || (state.uses && data.uses !== state.uses);
        hidden = hidden || (cost > 0 && !(parseFloat(data.seconds) <= cost));
      }
      row.hidden = Boolean(hidden);
    });
  }
  function apply() {
    applying = true;
    if (form) {
      KEYS.forEach(function (key) {
        var field = form.elements[key];
        if (!field || document.activeElement === field && field.type === "search") { return; }
        field.value = state[key] || "";
        if (field.selectedIndex === -1) { field.selectedIndex = 0; }
      });
    }
    document.querySelectorAll(".block").forEach(function (block) {
      block.hidden = Boolean((state.task && block.dataset.task !== state.task) || (state.table && form.elements.table && form.elements.table.value === state.table && block.dataset.table !== state.table));
    });
    document.querySelectorAll(".folded").forEach(function (item) { item.hidden = Boolean(state.task && item.dataset.task !== state.task); });
    document.querySelectorAll("section[data-family]").forEach(function (section) {
      section.hidden = Boolean(state.family && section.dataset.family !== state.family);
    });
    sortAsStated();
    showRows(document);
    applying = false;
    tell();
  }
  function tell() {
    if (!count) { return; }
    var rows = document.querySelectorAll(".block:not([hidden]) section[data-family]:not([hidden]) tbody tr[data-name]");
    var shown = 0;
    rows.forEach(function (row) { shown += row.hidden ? 0 : 1; });
    count.textContent = shown === rows.length && !address() ? "" : shown + " of " + rows.length + " rows";
  }
  function changed(isNew) {
    KEYS.forEach(function (key) {
      var field = form.elements[key];
      if (!field) { return; }
      delete state[key];
      if (field.value) { state[key] = field.value; }
    });
    var chosen = form.elements.table && form.elements.table.selectedOptions[0];
    if (chosen && chosen.dataset.href) {
      delete state.table;
      delete state.sort;
      var rest = address();
      location.href = chosen.dataset.href + (rest ? "#" + rest : "");
      return;
    }
    remember(isNew);
    apply();
  }
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("change", function (event) { if (event.target.type !== "search") { changed(true); } });
    form.addEventListener("input", function (event) { if (event.target.type === "search") { changed(false); } });
    form.addEventListener("reset", function (event) {
      event.preventDefault();
      state = {};
      form.elements.name.value = "";
      remember(true);
      apply();
    });
  }
  window.addEventListener("popstate", function () { read(); apply(); });
  window.addEventListener("hashchange", function () { read(); apply(); });
  read();

  // Tables become sortable when they come into sight.
  if (window.simpleDatatables) {
    var all = document.querySelectorAll("table.board");
    all.forEach(function (element, i) { if (!element.id) { element.id = "table" + i; } });
    if ("IntersectionObserver" in window) {
      var seen = new IntersectionObserver(function (entries) {
        entries.forEach(function (entry) {
          if (entry.isIntersecting) { seen.unobserve(entry.target); makeTable(entry.target); showRows(entry.target); }
        });
      }, { rootMargin: "300px" });
      all.forEach(function (element) { seen.observe(element); });
    } else {
      all.forEach(makeTable);
    }
  }
  apply();
  root.dataset.ready = "yes";
})();
