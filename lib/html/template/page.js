(function () {
  "use strict";
  var button = document.querySelector(".fold");
  var cells = Array.from(document.querySelectorAll("details.code"));
  if (button && cells.length) {
    button.hidden = false;
    button.addEventListener("click", function () {
      var open = button.getAttribute("aria-pressed") !== "true";
      cells.forEach(function (cell) { cell.open = open; });
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Hide all code" : "Show all code";
    });
  }
  document.querySelectorAll(".r-sort table").forEach(function (table) {
    var body = table.tBodies[0];
    var rows = Array.from(body.rows);
    var totals = rows.filter(function (row) { return row.classList.contains("r-total"); });
    var others = rows.filter(function (row) { return !row.classList.contains("r-total"); });
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      if (head.tagName !== "TH") { return; }
      var numeric = others.some(function (row) { return row.cells[column].dataset.v !== undefined; });
      var key = function (row) {
        var cell = row.cells[column];
        if (!numeric) { return cell.textContent.trim(); }
        return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
      };
      var sorter = document.createElement("button");
      sorter.type = "button";
      sorter.className = "sort";
      sorter.append.apply(sorter, Array.from(head.childNodes));
      head.append(sorter);
      sorter.addEventListener("click", function () {
        var next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        var sorted = others.slice();
        if (next !== "none") {
          head.setAttribute("aria-sort", next);
          var sign = next === "ascending" ? 1 : -1;
          sorted.sort(function (one, two) {
            var a = key(one), b = key(two);
            if (a === null || b === null) { return (a === null) - (b === null); }
            return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
          });
        }
        body.append.apply(body, sorted.concat(totals));
      });
    });
  });
  var scrollers = Array.from(document.querySelectorAll(".r-scroll, .r-figure"));
  var hint = function (box) {
    box.classList.toggle("r-more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  };
  var reach = function () {
    scrollers.forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1) { box.tabIndex = 0; } else { box.removeAttribute("tabindex"); }
      hint(box);
    });
  };
  scrollers.forEach(function (box) { box.addEventListener("scroll", function () { hint(box); }, { passive: true }); });
  reach();
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  var reveal = function () {
    var target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (var box = target && target.closest("details"); box; box = box.parentElement.closest("details")) {
      box.open = true;
    }
  };
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", function () {
    document.querySelectorAll(".prov, .caveats details, .appendix details").forEach(function (box) { box.open = true; });
  });
  reveal();
  var toc = document.querySelector(".toc details");
  if (!toc) { return; }
  if (matchMedia("(max-width: 64rem)").matches) { toc.open = false; }
  var links = new Map();
  toc.querySelectorAll("a").forEach(function (link) { links.set(link.hash.slice(1), link); });
  if (!("IntersectionObserver" in window)) { return; }
  var current = null;
  var observer = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (!entry.isIntersecting) { return; }
      if (current) { current.removeAttribute("aria-current"); }
      current = links.get(entry.target.id);
      current.setAttribute("aria-current", "true");
    });
  }, { rootMargin: "0px 0px -75% 0px" });
  links.forEach(function (link, id) {
    var target = document.getElementById(id);
    if (target) { observer.observe(target); }
  });
})();
