// The menu of lessons shows the entry of the page that is open, also after "Next" or a search.
(() => {
  const show = () => {
    const entry = document.querySelector(".bd-links .current.active > a");
    const menu = entry && entry.closest("dialog, .bd-sidebar-primary");
    if (!menu) return;
    const at = entry.getBoundingClientRect(), box = menu.getBoundingClientRect();
    if (at.top < box.top || at.bottom > Math.min(box.bottom, innerHeight)) {
      menu.scrollTop += at.top - box.top - menu.clientHeight / 2;
    }
  };
  addEventListener("load", () => {
    show();
    for (const button of document.querySelectorAll(".primary-toggle")) {
      button.addEventListener("click", () => setTimeout(show, 50));
    }
  });
})();
