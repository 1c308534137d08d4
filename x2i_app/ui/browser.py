"""JavaScript of the page: keys, a theme that lasts, names for screen readers, plain sentences for files that Gradio
refuses, and another try for images that did not load.
"""

import json

from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import DEFAULT, LANGUAGES, Text, gradio_labels
from x2i_app.ui.theme import NARROW

_TEXTS = {
    language: {
        "wrong": Text("file.wrong").to(language),
        "large": Text("file.large").to(language, files="{files}", most=f"{HTTP_LIMITS.upload_bytes / 1e6:.0f} MB"),
        "failed": Text("failed").to(language),
        "or": Text("file.or").to(language),
        "kinds": {kind: Text(f"file.{kind}").to(language) for kind in ("image", "video", "audio")},
        "labels": gradio_labels(language),
    }
    for language in LANGUAGES
}

# Runs when the page opens.
ON_LOAD = """() => {
  document.documentElement.lang = navigator.language;
  const theme = localStorage.getItem("x2i-theme");
  if (theme) document.body.classList.toggle("dark", theme === "dark");

  // Ctrl+Enter, on a Mac Cmd+Enter, clicks Generate in the open tab; Esc clicks Stop.
  document.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const generate = [...document.querySelectorAll("[id^=generate-]")].find(button => button.checkVisibility());
      if (generate) { event.preventDefault(); event.stopPropagation(); generate.click(); }
    } else if (event.key === "Escape") {
      const stop = document.querySelector("#stop");
      if (stop?.checkVisibility({visibilityProperty: true})) stop.click();
    }
  }, true);

  // An image whose connection broke is requested again, at most four times: mobile connections lose some.
  const tries = new WeakMap();
  document.addEventListener("error", event => {
    const image = event.target, address = image.src;
    const {last, count} = tries.get(image) ?? {};
    const next = last === address ? count + 1 : 1;
    if (image.tagName !== "IMG" || next > 4) return;
    tries.set(image, {last: address, count: next});
    setTimeout(() => { if (image.src === address) image.src = address; }, 500 * 2 ** next);
  }, true);

  const languages = TEXTS, texts = languages[navigator.language.toLowerCase().split("-")[0]] ?? languages["DEFAULT"];

  // For screen readers: empty places get a role that allows a name, and examples and text boxes get a name.
  const name = () => {
    for (const place of document.querySelectorAll("div.empty[aria-label]:not([role])")) {
      place.setAttribute("role", "img");
    }
    for (const example of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
      const file = example.querySelector("img, video")?.src.split("/").pop() ?? "";
      const label = decodeURIComponent(file).replace(/[.]\\w+$/, "").replaceAll("-", " ");
      if (!example.innerText.trim()) example.setAttribute("aria-label", label || "...");
    }
    for (const part of document.querySelectorAll("[aria-label]")) {
      const label = texts.labels[part.getAttribute("aria-label")];
      if (label && label !== part.getAttribute("aria-label")) part.setAttribute("aria-label", label);
    }
    for (const box of document.querySelectorAll(".textarea-wrapper textarea:not([aria-label])")) {
      const label = box.closest(".block")?.querySelector("[data-testid=block-info], [data-testid=block-label]");
      if (label) box.setAttribute("aria-label", label.innerText);
    }
  };

  // When an upload area refuses a file, Gradio names MIME types, and only in English.
  const translate = message => {
    const wrong = message.match(/^Invalid file types?: (.+)[.] Only (.+) allowed[.]$/);
    const large = message.match(/^File[(]s[)] exceed the maximum allowed size of .+?: (.+)$/);
    if (large) return texts.large.replace("{files}", large[1].replaceAll('"', ""));
    if (!wrong) return message;
    const kinds = wrong[2].split(", ").map(kind => texts.kinds[kind.split("/")[0]] ?? kind);
    return texts.wrong.replace("{files}", wrong[1]).replace("{kinds}", [...new Set(kinds)].join(texts.or));
  };
  const translateToasts = () => {
    for (const toast of document.querySelectorAll("[data-testid=toast-text]")) {
      const message = toast.innerText.trim(), translated = translate(message);
      if (translated !== message) toast.innerText = translated;
    }
    for (const title of document.querySelectorAll("[data-testid=toast-body] .toast-title-row span")) {
      const node = title.firstChild;
      if (/^(Error|Warning)$/.test(node?.data?.trim()) && node.data !== texts.failed) node.data = texts.failed;
    }
  };
  new MutationObserver(translateToasts).observe(document.body, {childList: true, subtree: true});
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();
}""".replace("DEFAULT", DEFAULT).replace("TEXTS", json.dumps(_TEXTS, ensure_ascii=False))

TOGGLE_THEME = """() => {
  const dark = document.body.classList.toggle("dark");
  localStorage.setItem("x2i-theme", dark ? "dark" : "light");
}"""

# Clicks Generate in the open tab, after Gradio has shown the tab and set its values.
CLICK_GENERATE = """() => setTimeout(
  () => [...document.querySelectorAll("[id^=generate-]")].find(button => button.checkVisibility())?.click(), 300)"""

# On a phone the tabs are below the result.
SCROLL_TO_TABS = f"() => {{ if (innerWidth <= {NARROW}) document.querySelector('#tabs').scrollIntoView(); }}"
