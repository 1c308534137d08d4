"""What the browser does by itself: keys, a light or dark that lasts, and names for what Gradio leaves without one."""

from x2i_app.ui.theme import NARROW

# Run when the page opens.
ON_LOAD = """() => {
  document.documentElement.lang = navigator.language;
  const light = localStorage.getItem("x2i-light");
  if (light) document.body.classList.toggle("dark", light === "dark");

  // Ctrl+Enter, on a Mac Cmd+Enter, makes the open tab's picture; Esc stops it.
  document.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const make = [...document.querySelectorAll("[id^=make-]")].find(button => button.checkVisibility());
      if (make) { event.preventDefault(); event.stopPropagation(); make.click(); }
    } else if (event.key === "Escape") {
      const stop = document.querySelector("#stop");
      if (stop?.checkVisibility({visibilityProperty: true})) stop.click();
    }
  }, true);

  // For screen readers: empty places get a role that may have a name, examples and text boxes get a name.
  const name = () => {
    for (const place of document.querySelectorAll("div.empty[aria-label]:not([role])")) {
      place.setAttribute("role", "img");
    }
    for (const example of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
      const file = example.querySelector("img, video")?.src.split("/").pop() ?? "";
      const words = decodeURIComponent(file).replace(/[.]\\w+$/, "").replaceAll("-", " ");
      if (!example.innerText.trim()) example.setAttribute("aria-label", words || "...");
    }
    for (const box of document.querySelectorAll(".textarea-wrapper textarea:not([aria-label])")) {
      const label = box.closest(".block")?.querySelector("[data-testid=block-info], [data-testid=block-label]");
      if (label) box.setAttribute("aria-label", label.innerText);
    }
  };
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();
}"""

TURN_LIGHT = """() => {
  const dark = document.body.classList.toggle("dark");
  localStorage.setItem("x2i-light", dark ? "dark" : "light");
}"""

# The button of the tab that is open, once it has come to the front and its values are in their places.
MAKE_NOW = """() => setTimeout(
  () => [...document.querySelectorAll("[id^=make-]")].find(button => button.checkVisibility())?.click(), 300)"""

# On a phone the tabs are below the picture.
SHOW_TABS = f"() => {{ if (innerWidth <= {NARROW}) document.querySelector('#tabs').scrollIntoView(); }}"
