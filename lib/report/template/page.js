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
