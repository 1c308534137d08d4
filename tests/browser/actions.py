"""What a user does on the page, for all browser tests."""

from playwright.sync_api import Locator, Page, expect

from x2i_app.ui.i18n import Text


def wait_until_ready(page: Page) -> None:
    """Wait until the page's script listens and what the browser has kept is back."""
    page.locator("#generate-text").wait_for()
    page.wait_for_function("window.x2iDraft && document.documentElement.classList.contains('listening')")


def panel(page: Page, tab: str) -> Locator:
    """All of a tab."""
    return page.locator(f"[role=tabpanel]:has(#generate-{tab})")


def open_tab(page: Page, tab: str) -> Locator:
    """Open a tab; returns its panel."""
    page.get_by_role("tab", name=Text(f"tab.{tab}").en, exact=True).first.click()
    expect(page.locator(f"#generate-{tab}")).to_be_visible()
    return panel(page, tab)


def prompt_box(page: Page, tab: str = "text") -> Locator:
    """Where the prompt of a tab is typed."""
    return panel(page, tab).locator("textarea").first


def images(page: Page) -> Locator:
    """The images of the result."""
    return page.locator("#result-images img")


def number_field(page: Page, label: str) -> Locator:
    """The number input of a slider."""
    return page.get_by_label(f"number input for {label}", exact=True)


def write(field: Locator, value: int) -> None:
    """Fill in a field of a section that was just opened: until Gradio has set it up, it returns to its old value."""
    for _ in range(10):
        field.fill(str(value))
        field.press("Tab")
        field.page.wait_for_timeout(200)
        if field.input_value() == str(value):
            break
    expect(field).to_have_value(str(value))


def set_settings(page: Page, **settings: int) -> None:
    """Open the settings and set some, by their labels."""
    page.locator("#settings button", has_text=Text("settings").en).first.click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("")  # random by default
    for label, value in settings.items():
        write(number_field(page, label), value)


def upload(page: Page, tab: str, *files) -> None:
    """Add files to a tab's input."""
    panel(page, tab).locator("input[type=file]").first.set_input_files([str(file) for file in files])
    page.wait_for_timeout(300)
    expect(page.locator(f"#generate-{tab}")).to_be_enabled()


def generate(page: Page, tab: str = "text") -> str:
    """Click Generate and wait for a new result; returns the address of its first image."""
    before = images(page).first.get_attribute("src") if images(page).count() else ""
    page.locator(f"#generate-{tab}").click()
    expect(images(page).first).not_to_have_attribute("src", before)
    expect(page.locator("#progress")).to_contain_text("Done")
    expect(images(page).first).to_be_visible()
    return images(page).first.get_attribute("src")
