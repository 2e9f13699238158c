"""The report: its contents, that it needs no other file, and how it looks in a browser."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scored_runs import score_run
from support import lively_network, run_command, write_dhf1k, write_run, write_salicon

from unisal.evaluate.metric_table import METRICS
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.report import REPORT, extremes
from unisal.evaluate.scores import Scores
from unisal.evaluate.scoring import dataset_to_score, predict_frame
from unisal.inference.engine import Engine
from unisal.predict.datasets import predict_dataset
from unisal.visualize.difference import TOO_LITTLE_COLOUR, TOO_MUCH_COLOUR

RUN = """mine<b onclick='x'>&amp;"quoted\""""
"""A run's name that must not be taken for a part of the page."""
USED = ("kld", "nss", "cc", "sim")
VOID = {"meta", "img", "path", "rect", "circle", "link", "br", "input"}


class Page(HTMLParser):
    """What a page consists of.

    Attributes:
        tags: (name, attributes, names of the elements around it) of every element, in order.
        texts: (text, names of the elements around it).
        tables: the rows of each table, as lists of texts.
    """

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.tables, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], "elements that are not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID
        self.tags.append((tag, dict(attributes), tuple(self.open)))

    def handle_data(self, data):
        self.texts.append((data, tuple(self.open)))
        if "tr" in self.open and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1] += f" {data.strip()}"

    def all(self, tag):
        return [attributes for name, attributes, _ in self.tags if name == tag]

    def text(self, tag):
        """Return the texts inside elements of that name."""
        return [" ".join(text.split()) for text, around in self.texts if tag in around]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The folder of a run with a report of images and videos, made as a user makes it."""
    root = tmp_path_factory.mktemp("report")
    write_salicon(root / "SALICON", "train", n=3, size=(96, 128))
    write_salicon(root / "SALICON", "val", n=9, size=(96, 128))
    write_dhf1k(root / "DHF1K", {601: 4, 602: 7})
    fixations = root / "SALICON" / "fixations" / "val" / "COCO_val2014_000000000002.png"
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(fixations)  # has no NSS
    write_run(root / "runs" / RUN)
    done = run_command(
        "score_model",
        f"--train_id={RUN}",
        "--sources=SALICON,DHF1K",
        f"--metrics={','.join(USED)}",
        "--baselines=True",
        "--report=True",
        "--device=cpu",
        env={
            "TRAIN_DIR": str(root / "runs"),
            "SALICON_DATA_DIR": str(root / "SALICON"),
            "DHF1K_DATA_DIR": str(root / "DHF1K"),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {root / 'runs' / RUN / REPORT}"
    return root / "runs" / RUN


@pytest.fixture(scope="module")
def html(scored):
    return (scored / REPORT).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# ---- what it says ------------------------------------------------------------------------------


def number(value):
    return "–" if value is None else f"{value:.3f}"


def cell(mean, interval):
    return number(mean) if mean is None else f"{mean:.3f} {interval[0]:.3f} – {interval[1]:.3f}"


def cells(summary, kind="mean"):
    return [cell(summary[kind][m], summary[f"{kind}_interval_95"][m]) for m in USED]


def without_spaces(rows):
    return [[" ".join(text.split()) for text in row] for row in rows]


def test_the_tables_hold_the_scores_that_are_in_the_files(scored, page):
    images, all_images, videos, all_videos = map(without_spaces, page.tables)
    head = ["", "KLD ↓", "NSS ↑", "CC ↑", "SIM ↑"]
    summary = json.loads((scored / "SALICON_eval_summary.json").read_text())
    assert summary["left_out"]["nss"] == 1
    assert images == [
        head,
        ["This run", *cells(summary)],
        ["chance", *cells(summary["baselines"]["chance"])],
        ["centre bias", *cells(summary["baselines"]["centre bias"])],
        ["undefined, left out of this run's means", "0", "1", "0", "0"],
    ]
    assert [row[0] for row in all_images] == ["Image", *summary["videos"]]
    rows = json.loads((scored / "SALICON_eval_scores.json").read_text())
    assert [row[1:] for row in all_images[1:]] == [list(map(number, row)) for row in rows]
    assert all_images[2][2] == "–"  # NSS of the image without a fixation

    summary = json.loads((scored / "DHF1K_eval_summary.json").read_text())
    assert videos == [
        head,
        ["This run, mean over videos", *cells(summary)],
        ["mean over all frames", *cells(summary, "weighted_mean")],
        ["chance", *cells(summary["baselines"]["chance"])],
    ]
    assert videos[1] != videos[2]
    assert [row[0] for row in all_videos] == ["Video", "0601", "0602"]


def test_the_page_says_what_was_scored_and_how(page):
    assert page.text("h1") == [RUN]
    assert (f"{RUN}: scores", ("html", "head", "title")) in page.texts
    assert page.text("h2") == ["SALICON", "DHF1K", "What the numbers mean"]
    facts = [text for text in page.text("dl") if text]
    for name, value in (("Part", "eval"), ("Images", "9"), ("Videos", "2"), ("Frames", "11")):
        assert facts[facts.index(name) + 1] == value
    (moment,) = page.all("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", moment["datetime"])
    meanings = " ".join(page.text("dd"))
    for name in USED:
        assert METRICS[name].text in meanings
    assert "half of the observers" not in meanings  # nobody tells them apart here


def test_best_and_worst_are_shown_in_order_with_their_scores(scored, page):
    rows = json.loads((scored / "SALICON_eval_scores.json").read_text())
    names = json.loads((scored / "SALICON_eval_summary.json").read_text())["videos"]
    order = sorted(range(9), key=lambda i: -rows[i][USED.index("cc")])
    titles = [text for text in page.text("h4") if text]
    images = [names[i] for i in (*order[:4], *order[:-5:-1])]
    assert titles[:8] == images
    videos = [json.loads((scored / "DHF1K_eval_scores.json").read_text())[i][2] for i in (0, 1)]
    middle = {"0601": "frame 2 of 4", "0602": "frame 4 of 7"}
    shown = ["0601", "0602"] if videos[0] >= videos[1] else ["0602", "0601"]
    assert titles[8:] == [text for name in shown for text in (name, middle[name])]
    chips = [text for text, around in page.texts if "article" in around and "dd" in around]
    first_rows = [number(value) for i in (*order[:4], *order[:-5:-1]) for value in rows[i]]
    assert chips[: len(first_rows)] == first_rows


def test_a_chart_stands_for_every_metric_and_marks_the_baselines(scored, page):
    labels = [attributes["aria-label"] for attributes in page.all("svg")]
    assert [re.match(r"Histogram of (\S+) over", label)[1] for label in labels] == 2 * [
        METRICS[name].name for name in USED
    ]
    assert "over 8 images" in labels[1]  # one has no NSS
    assert "over 2 videos" in labels[4]
    marked = [" ".join(t.split()) for t, around in page.texts if around[-2:] == ("svg", "text")]
    found = json.loads((scored / "SALICON_eval_summary.json").read_text())["baselines"]
    for name in ("chance", "centre bias"):
        for metric in USED:
            value = found[name]["mean"][metric]
            assert (f"{name} {number(value)}" in marked) == (value is not None)


# ---- that it needs nothing but itself ----------------------------------------------------------


def test_the_page_fetches_nothing(html, page):
    assert "://" not in html
    assert not re.search(r"url\(|@import|srcset|<(link|iframe|object|embed|base)\b", html)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    ids = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes, _ in page.tags:
        if "href" in attributes:
            assert attributes["href"].removeprefix("#") in ids
        assert attributes.get("src", "data:image/jpeg;base64,").startswith(
            "data:image/jpeg;base64,"
        )
        assert not [name for name in attributes if name.startswith("on")]


def test_the_pictures_are_whole_and_named(page):
    images = page.all("img")
    assert len(images) == 4 * (8 + 2)
    for attributes in images:
        picture = picture_of(attributes)
        assert picture.shape[:2] == (int(attributes["height"]), int(attributes["width"]))
        assert attributes["alt"].split(" of ")[0] in (
            "Picture",
            "Ground truth",
            "Prediction",
            "Difference",
        )
    assert len({attributes["alt"] for attributes in images}) == len(images)


def picture_of(attributes):
    data = attributes["src"].partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_headings_are_in_order_and_the_page_has_its_landmarks(page):
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _, _ in page.tags if re.fullmatch(r"h\d", name)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip([0, *levels], levels, strict=False))
    for landmark in ("header", "main", "nav"):
        assert len(page.all(landmark)) == 1


def test_nothing_is_left_beside_it(scored):
    assert not [path.name for path in scored.iterdir() if path.name.startswith(".")]


# ---- what is shown -----------------------------------------------------------------------------


def test_best_and_worst_are_never_the_same_and_have_a_score():
    nan = math.nan
    columns = np.array([[0.1, nan, 0.9, 0.5, 0.7], [3, 1, nan, 2, 0]]).T
    frames = columns[:, None, :]
    scores = Scores.from_frames("SALICON", ("cc", "kld"), frames)
    assert extremes(scores, 1) == ([2], [0])
    assert extremes(scores, 9) == ([2, 4], [0, 3])
    # Without CC the first metric decides, and of KLD less is better.
    scores = Scores.from_frames("SALICON", ("kld", "nss"), frames[:, :, ::-1])
    assert extremes(scores, 1) == ([4], [0])
    undefined = Scores.from_frames("SALICON", ("cc",), np.full((3, 1, 1), nan))
    assert extremes(undefined) == ([], [])


@pytest.mark.parametrize(("source", "number"), [("DHF1K", 4), ("SALICON", 1)])
def test_a_frame_is_predicted_again_as_it_was_scored(tmp_path, monkeypatch, source, number):
    monkeypatch.setenv(f"{source}_DATA_DIR", str(tmp_path))
    write_dhf1k(tmp_path, {601: 3, 602: 14})
    write_salicon(tmp_path, "val", n=3)
    dataset = dataset_to_score(source)
    engine = Engine(lively_network(), "cpu")
    expected = dict(predict_dataset(engine, dataset, dataset.domain, size="target"))
    again = predict_frame(engine, dataset, dataset.domain, 1, number)
    np.testing.assert_array_equal(again, expected[1, number])
    assert np.abs(again - expected[0, 1]).max() > 1e-3


def test_one_image_and_one_metric_are_a_page_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    write_salicon(tmp_path / "SALICON", "val", n=1)
    write_run(tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "mine" / REPORT).write_text("an old one")
    score_run(options=ScoringOptions(("nss",)), report=True)
    page = Page((tmp_path / "runs" / "mine" / REPORT).read_text())
    assert [text for text in page.text("h3") if text] == [
        "Scores",
        "Distributions",
        "Best and worst images",
        "Best by NSS",
    ]
    assert len(page.all("img")) == 4
    assert "report.html" in capsys.readouterr().out


def test_no_report_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    write_salicon(tmp_path / "SALICON", "val", n=1)
    write_run(tmp_path / "runs" / "mine")
    score_run(options=ScoringOptions(("sim",)))
    assert not (tmp_path / "runs" / "mine" / REPORT).exists()


# ---- in a browser ------------------------------------------------------------------------------

WIDTHS = (1280, 400)
CONTRAST = 4.5
"""Of text, by the Web Content Accessibility Guidelines, level AA."""
TEXTS = ("h1", "header p", "a", ".facts dt", ".scores td", ".scores small", ".chart small")
TEXTS += ("svg .tick", "svg .left, svg .right", "figcaption", ".chips dt", ".chips .main dt", "dd")

# Runs at the end of a copy of the page, and tells the page around it what there is to see.
WATCH = """
<script>
addEventListener("load", () => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  document.querySelector(".each thead th:last-child button").click();
  const backdrop = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const place = node => {
    const box = node.getBoundingClientRect();
    return [box.left, box.top, box.right, box.bottom];
  };
  parent.postMessage({
    width: innerWidth,
    needed: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    images: [...document.images].map(image => image.naturalWidth),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name),
    sorted: [...document.querySelectorAll(".each tbody")][0].innerText.split("\\n"),
    colours: TEXTS.map(selector => {
      const node = document.querySelector(selector), style = getComputedStyle(node);
      return [node instanceof SVGElement ? style.fill : style.color, backdrop(node)];
    }),
    picture: place(document.images[0]),
    signed: place(document.querySelector(".signed")),
    bars: [...document.querySelector("svg").querySelectorAll(".bar")].map(place),
  }, "*");
});
</script>
"""

# Shows the copy at several widths side by side; what they tell becomes its title.
AROUND = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"></head>
<body style="margin: 0; display: flex">
<script>
const told = {};
addEventListener("message", event => {
  told[event.data.width] = event.data;
  if (Object.keys(told).length === WIDTHS.length) document.title = JSON.stringify(told);
});
for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; flex: none; width: ${width}px; height: HEIGHTpx`;
  frame.src = "copy.html";
  document.body.append(frame);
}
</script>
</body></html>
"""
HEIGHT = 3000


@pytest.fixture(scope="module")
def browser():
    """The browser's program; the test is skipped where there is none, but not in `.ci/run`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and not os.environ.get("UNISAL_REQUIRE_BROWSER"):
        pytest.skip("no chromium is installed")
    assert found, "no chromium is installed, and UNISAL_REQUIRE_BROWSER is set"
    return found


def look(browser, html, folder, dark):
    """Return what the page reports at each width, and a screenshot `[h, w, 3]` of them all."""
    folder.mkdir()
    watch = WATCH.replace("TEXTS", json.dumps(TEXTS))
    (folder / "copy.html").write_text(html.replace("</body>", f"{watch}</body>"))
    around = AROUND.replace("WIDTHS", str(list(WIDTHS))).replace("HEIGHT", str(HEIGHT))
    (folder / "around.html").write_text(around)
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={sum(WIDTHS)},{HEIGHT}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=10000",
            f"--screenshot={folder / 'shot.png'}",
            "--dump-dom",
            (folder / "around.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    title = next(iter(Page(done.stdout).text("title")), None)
    assert title, f"the page did not load: {done.stdout[-500:]} {done.stderr[-500:]}"
    shot = np.asarray(Image.open(folder / "shot.png").convert("RGB"))
    return {int(width): told for width, told in json.loads(title).items()}, shot


def contrast(colour, backdrop):
    """The ratio of two colours' luminances, as the guidelines define it."""
    levels = []
    for text in (colour, backdrop):
        channels = np.array([int(n) for n in re.findall(r"\d+", text)[:3]]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        levels.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(levels) / min(levels)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_looks_right_in_a_browser(browser, scored, html, page, tmp_path, dark):
    told, shot = look(browser, html, tmp_path / "look", dark)
    assert shot.shape == (HEIGHT, sum(WIDTHS), 3)
    own_widths = [int(attributes["width"]) for attributes in page.all("img")]
    rows = json.loads((scored / "SALICON_eval_scores.json").read_text())
    left = 0
    for width in WIDTHS:
        seen, part = told[width], shot[:, left : left + width]
        left += width
        assert seen["needed"] <= width, f"scrolls sideways at {width}"
        assert seen["images"] == own_widths  # all have been decoded
        assert seen["fetched"] == []
        by_sim = [float(line.split()[-1]) for line in seen["sorted"] if line.strip()]
        assert by_sim == sorted((round(row[-1], 3) for row in rows), reverse=True)
        for selector, colours in zip(TEXTS, seen["colours"], strict=True):
            assert contrast(*colours) >= CONTRAST, (selector, colours)
        check_colours(part, seen, page, dark)
    assert told[400]["height"] > told[1280]["height"]


def check_colours(shot, seen, page, dark):
    """Look at the pixels themselves: nothing is covered, blank or in a wrong colour."""
    paper = shot[5, 5].astype(int)
    assert (paper.max() < 60) if dark else (paper.min() > 240)
    x0, y0, x1, y1 = (round(v) for v in seen["picture"])
    drawn = shot[y0:y1, x0:x1]
    expected = Image.fromarray(picture_of(page.all("img")[0])).resize((x1 - x0, y1 - y0))
    inside = slice(4, -4), slice(4, -4)
    assert np.abs(drawn[inside].astype(int) - np.asarray(expected)[inside]).mean() < 6
    x0, y0, x1, y1 = (round(v) for v in seen["signed"])
    middle = shot[(y0 + y1) // 2]
    np.testing.assert_allclose(middle[x0 + 3], TOO_LITTLE_COLOUR, atol=12)
    np.testing.assert_allclose(middle[x1 - 4], TOO_MUCH_COLOUR, atol=12)
    assert np.ptp(middle[(x0 + x1) // 2].astype(int)) < 12
    (x0, y0, x1, y1) = max(seen["bars"], key=lambda box: box[3] - box[1])
    bar = shot[round(y0 + 3) : round(y1 - 3), round(x0 + 1) : round(x1 - 1)]
    blueish = bar[:, :, 2].astype(int) - bar[:, :, 0] > 30
    assert blueish.mean() > 0.6
