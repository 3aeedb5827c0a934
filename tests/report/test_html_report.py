"""report.html: sections, numbers, hostile names, and a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from tests.report.diagnosed import CLASSES, FILES, SCRIPT, dataset, found, write_run
from ugs_jax.report import diagnose, write_diagnosis, write_html_report, write_report, write_worst_images
from ugs_jax.report.html_report import SECTIONS
from ugs_jax.report.text import printable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Tags with their attributes, and the text of each section."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.ids = [], {"": ""}, []
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text[self._section] += " "
        if tag in ("section", "header"):
            self._section = dict(attrs)["id"]
            self.ids.append(self._section)
            self.text[self._section] = ""

    def handle_data(self, data):
        self.text[self._section] = self.text.get(self._section, "") + data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("html") / "run")
    diagnosis = diagnose(dataset(), found(), f"{SCRIPT} images")
    write_diagnosis(folder / "diagnosis_best.json", diagnosis)
    write_worst_images(folder, "best", diagnosis, dataset())
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page(write_html_report(folder).read_text())


def test_all_sections_are_there_in_order_and_linked(page):
    assert page.ids == ["summary", *(name for name, _ in SECTIONS)]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{name}" for name, _ in SECTIONS]


def test_the_summary_tells_that_a_run_ended_early(tmp_path):
    folder = write_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["experiment"]["patience"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "eval", "step": 30, "epoch": 3.0, "ap": 0.1}) + "\n")
    summary = Page(write_html_report(folder).read_text()).text["summary"]
    assert "3 of 9 epochs are trained. Ended early, at epoch 3 of 9: AP was not better for 1 evaluation" in summary


def test_nothing_is_loaded_and_nothing_is_run(page):
    """Names of classes and files, the run's name, its command and its config are hostile."""
    allowed = (
        "html head meta title style body header nav section figure figcaption img h1 h2 p a dl div dt dd pre code "
    )
    allowed += "strong ul li i b table tr th td svg g defs path use text tspan clippath rect"
    assert {tag for tag, _ in page.tags} <= set(allowed.split())
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attrs)
        assert "url(" not in attrs.get("style", "").replace("url(#", "")
    policies = [attrs["content"] for tag, attrs in page.tags if "content" in attrs and "http-equiv" in attrs]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_hostile_names_are_shown_as_they_are_except_for_control_characters(page):
    assert f"{SCRIPT}, seed 3" in page.text["summary"]
    assert f"ugs train 'x{SCRIPT}'" in page.text["summary"]
    for name in CLASSES:
        assert printable(name) in page.text["classes"]
    assert "$\\frac{1}$ | person �" in page.text["confusion"]  # in the figure, not set as mathematics
    assert FILES[1] in page.text["worst"]
    assert SCRIPT in page.text["configuration"]
    assert SCRIPT in page.text["environment"]
    assert "\u202e" not in "".join(page.text.values())


def test_numbers_are_those_of_the_log_and_of_the_diagnosis(page):
    words = {name: " ".join(text.split()) for name, text in page.text.items()}
    assert "Best AP 20.0 at epoch 2. 2 of 9 epochs are trained." in words["summary"]
    assert "highest F1, at confidence 0.55 66.7" in words["summary"]
    assert "training, images per second 35" in words["throughput"]  # median of 30 and 40
    assert "tiny 8–16 3 25.0 66.7" in words["sizes"]
    assert f"{printable(CLASSES[0])} 3 10.0 66.3 66.7 66.7 66.7 0.700" in words["classes"]
    assert "all classes 6 20.0 40.0 66.7 66.7 66.7 0.550" in words["classes"]
    assert "Of 6 objects, 4 are detected as their class, 1 as another class, and 1 are missed" in words["confusion"]
    assert f"{FILES[1]}: 1 missed, 1 false, 1 in another class, 1 right" in words["worst"]
    assert "Box sides: their errors are" in words["calibration"]
    assert "network.size s n" in words["configuration"]
    assert "network.p2" not in words["configuration"]


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = [attrs["xlink:href"][1:] for _, attrs in page.tags if "xlink:href" in attrs]
    references += [attrs["clip-path"][5:-1] for _, attrs in page.tags if "clip-path" in attrs]
    assert references
    assert set(references) <= set(ids)


def test_colours_come_from_the_style_sheet_for_light_and_dark(folder, page):
    text = (folder / "report.html").read_text()
    style, rest = text.split("</style>", 1)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    blocks = style.split("@media (prefers-color-scheme: dark)")
    light, dark = (set(re.findall(r"(--[\w-]+):", block)) for block in blocks)
    assert used <= light
    assert used - {"--font"} <= dark
    assert not re.search(r"(fill|stroke): #(?!none)", rest)


def test_without_a_diagnosis_the_sections_say_how_to_get_one(tmp_path):
    folder = write_run(tmp_path / "run", name="plain")
    page = Page(write_html_report(folder).read_text())
    assert page.ids == ["summary", *(name for name, _ in SECTIONS)]
    for section in ("confidence", "confusion", "worst", "calibration"):
        assert f"ugs eval {folder} --plots" in page.text[section]
    assert "tiny 8–16" in page.text["sizes"]
    assert "30.0" in page.text["classes"]


def test_a_run_that_has_just_begun_gets_a_page(tmp_path):
    folder = write_run(tmp_path / "run", experiment=None, versions=None, command=None)
    (folder / "metrics.jsonl").write_text("")
    (folder / "timing.jsonl").unlink()
    page = Page(write_html_report(folder).read_text())
    words = {name: " ".join(text.split()) for name, text in page.text.items()}
    assert "Not scored yet." in words["summary"]
    assert "The command was not recorded." in words["summary"]
    assert "The run has logged no curves yet." in words["curves"]
    assert "no scores by class yet" in words["classes"]
    assert "no scores by size yet" in words["sizes"]
    assert "no throughput yet" in words["throughput"]
    assert "settings were not recorded" in words["configuration"]
    assert "environment was not recorded" in words["environment"]


def test_other_evaluations_have_pages_of_their_own(folder):
    write_diagnosis(folder / "diagnosis_last_test.json", diagnose(dataset(), found()))
    path = write_html_report(folder, "last_test", {"ap": 0.77, "ap50": None}, "by hand")
    assert path.name == "report_last_test.html"
    page = Page(path.read_text())
    assert "Evaluation last_test: AP 77.0." in page.text["summary"]
    assert "Scores: by hand." in page.text["environment"]
    assert "Pictures of these images are drawn by" in page.text["worst"]


def test_the_markdown_report_lists_what_differs_from_the_defaults(folder):
    text = write_report(folder).read_text()
    section = text.partition("## Configuration")[2].partition("## Environment")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows == [
        f"| name | {SCRIPT} |  |", "| data | TinyScenes |  |", "| network.size | s | n |", "| epochs | 2 | 100 |",
    ]  # fmt: skip


MEASURE = """<script>
addEventListener("load", async () => {
  const pictures = [...document.images];
  pictures.forEach(picture => { picture.loading = "eager"; });
  await Promise.all(pictures.map(picture => picture.decode().catch(() => null)));
  const scrolled = [...document.querySelectorAll(".scroll *")];
  const wide = [...document.querySelectorAll("body *")].filter(element =>
    !scrolled.includes(element) && element.getBoundingClientRect().right > innerWidth + 1);
  document.body.dataset.measured = JSON.stringify({
    over: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 90)),
    heights: Object.fromEntries([...document.querySelectorAll("section")].map(e => [e.id, e.offsetHeight])),
    pictures: pictures.map(picture => picture.naturalWidth),
    plots: [...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect().height),
    alone: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length === 0,
  });
});
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_every_section_without_an_error(folder, tmp_path, width):
    write_html_report(folder)
    out, errors = browse(folder / "report.html", tmp_path, width, "--dump-dom")
    assert "CONSOLE" not in errors  # such as a violation of the policy
    assert out.count("<svg") == len([tag for tag, _ in Page((folder / "report.html").read_text()).tags if tag == "svg"])
    # With a script, which the page itself must not have, its layout is measured.
    text = (folder / "report.html").read_text().replace("</body>", MEASURE)
    (tmp_path / "measured.html").write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text))
    out, _ = browse(tmp_path / "measured.html", tmp_path, width, "--dump-dom")
    found = json.loads(re.search(r'data-measured="([^"]*)"', out)[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert found["over"] <= 0, found["wide"]
    assert list(found["heights"]) == [name for name, _ in SECTIONS]
    assert min(found["heights"].values()) > 60
    assert found["pictures"] == [800]
    assert min(found["plots"]) > 150
    assert found["alone"]


def browse(path, tmp_path, width, *options):
    words = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=5000", *options,
        path.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return shown.stdout, shown.stderr
