"""What the browser does by itself: keys, a light or dark that lasts, names for what Gradio leaves without one, our own
sentences for files that it refuses, and pictures that are asked for again.
"""

import json

from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.gradio_strings import GRADIO_LABELS
from x2i_app.ui.i18n.languages import LANGUAGES
from x2i_app.ui.theme import NARROW

_WORDS = {
    language: {
        "wrong": texts.WRONG_FILE.to(language),
        "large": texts.LARGE_FILE.to(language, files="{files}", most=f"{HTTP_LIMITS.upload_bytes / 1e6:.0f} MB"),
        "failed": texts.FAILED.to(language),
        "or": texts.FILE_OR.to(language),
        "kinds": {kind: words.to(language) for kind, words in texts.FILE_KINDS.items()},
        "labels": {label.en: label.to(language) for label in GRADIO_LABELS},
    }
    for language in LANGUAGES
}

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

  // A picture whose connection broke is asked for again, four times at most: phones on the move lose some.
  const tries = new WeakMap();
  document.addEventListener("error", event => {
    const image = event.target, address = image.src;
    const {last, count} = tries.get(image) ?? {};
    const next = last === address ? count + 1 : 1;
    if (image.tagName !== "IMG" || next > 4) return;
    tries.set(image, {last: address, count: next});
    setTimeout(() => { if (image.src === address) image.src = address; }, 500 * 2 ** next);
  }, true);

  const words = WORDS[navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"];

  // For screen readers: empty places get a role that may have a name, examples and text boxes get a name.
  const name = () => {
    for (const place of document.querySelectorAll("div.empty[aria-label]:not([role])")) {
      place.setAttribute("role", "img");
    }
    for (const example of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
      const file = example.querySelector("img, video")?.src.split("/").pop() ?? "";
      const said = decodeURIComponent(file).replace(/[.]\\w+$/, "").replaceAll("-", " ");
      if (!example.innerText.trim()) example.setAttribute("aria-label", said || "...");
    }
    for (const part of document.querySelectorAll("[aria-label]")) {
      const label = words.labels[part.getAttribute("aria-label")];
      if (label && label !== part.getAttribute("aria-label")) part.setAttribute("aria-label", label);
    }
    for (const box of document.querySelectorAll(".textarea-wrapper textarea:not([aria-label])")) {
      const label = box.closest(".block")?.querySelector("[data-testid=block-info], [data-testid=block-label]");
      if (label) box.setAttribute("aria-label", label.innerText);
    }
  };

  // A file that an upload area refuses: Gradio's own words name MIME types, in English.
  const refusal = said => {
    const wrong = said.match(/^Invalid file types?: (.+)[.] Only (.+) allowed[.]$/);
    const large = said.match(/^File[(]s[)] exceed the maximum allowed size of .+?: (.+)$/);
    if (large) return words.large.replace("{files}", large[1].replaceAll('"', ""));
    if (!wrong) return said;
    const kinds = wrong[2].split(", ").map(kind => words.kinds[kind.split("/")[0]] ?? kind);
    return words.wrong.replace("{files}", wrong[1]).replace("{kinds}", [...new Set(kinds)].join(words.or));
  };
  const reword = () => {
    for (const toast of document.querySelectorAll("[data-testid=toast-text]")) {
      const said = toast.innerText, better = refusal(said.trim());
      if (better !== said.trim()) toast.innerText = better;
    }
    for (const title of document.querySelectorAll("[data-testid=toast-body] .toast-title-row span")) {
      const said = title.firstChild;
      if (/^(Error|Warning)$/.test(said?.data?.trim())) said.data = words.failed;
    }
  };
  new MutationObserver(reword).observe(document.body, {childList: true, subtree: true});
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();
}""".replace("WORDS", json.dumps(_WORDS, ensure_ascii=False))

TURN_LIGHT = """() => {
  const dark = document.body.classList.toggle("dark");
  localStorage.setItem("x2i-light", dark ? "dark" : "light");
}"""

# The button of the tab that is open, once it has come to the front and its values are in their places.
MAKE_NOW = """() => setTimeout(
  () => [...document.querySelectorAll("[id^=make-]")].find(button => button.checkVisibility())?.click(), 300)"""

# On a phone the tabs are below the picture.
SHOW_TABS = f"() => {{ if (innerWidth <= {NARROW}) document.querySelector('#tabs').scrollIntoView(); }}"
