"""The figures: each draws what the JSON holds, the same each time, with its words inside."""

import re
from xml.etree import ElementTree

import pytest

from posttrain.comparison.alternatives import SAYS
from posttrain.comparison.markdown import printable_all
from tasks.comparison.charts.costs import costs, place_labels
from tasks.comparison.charts.forest import NARROW_ROW, ROW, forest, forest_rows
from tasks.comparison.charts.groups import groups
from tasks.comparison.charts.learning import learning, thinned
from tasks.comparison.charts.levels import level_rows, levels, means
from tasks.comparison.charts.panels import Axis, cost_axis, level_axis
from tasks.comparison.charts.proxy import proxy, proxy_rows
from tasks.comparison.charts.yardsticks import yardstick_rows, yardsticks
from tasks.pages import theme
from tasks.pages.svg import SVG, as_svg, tidied
from tasks.pages.theme import COLOURS, NARROW, WIDE
from tests.fabricated_comparison import SIX, budgets, comparison, hostile, logs, loss, one_seed

DRAWN = {
    **{"forest": forest, "costs": costs, "levels": levels, "learning": learning, "groups": groups},
    **{"yardsticks": yardsticks, "proxy": proxy},
}


def small():
    made = comparison({name: SIX[name] for name in ("sft", "rlhf")}, seeds=2)
    made["design"]["budget"] = {"kind": "labels", "amount": 4_000}
    made["levels"] = [row for row in budgets()["levels"] if row["method"] in ("sft", "rlhf") and row["seed"] < 2]
    for one in made["methods"]:
        for curve in one["learning"]:
            curve["points"] = curve["points"][::10]
    return made


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", DRAWN)
def test_each_figure_is_a_chart_that_vega_lite_knows(name, width):
    # altair checks the whole chart against vega-lite's schema here, and as_svg does not
    assert DRAWN[name](small(), width).to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite/v6")


def test_a_figure_bears_its_words_tooltips_and_nothing_that_a_policy_refuses():
    made = small()
    text = as_svg(lambda: forest(made, WIDE), name="forest-1", says=SAYS["forest"](made))
    root = ElementTree.fromstring(text)
    description = root.find(f"{{{SVG}}}desc")
    assert root.get("role") == "img" and root.get("aria-labelledby") == description.get("id") == "forest-1-says"
    gain = forest_rows(made)[0][0]["written"].split("  ")[0]
    assert gain in description.text and f"RLHF {gain}, better" in description.text
    tooltips = [element.text for element in root.iter(f"{{{SVG}}}title")]
    assert any(f"RLHF: {gain} points, 95 % interval; better by at least" in one for one in tooltips)
    assert sum("seed" in one for one in tooltips) == 2
    assert "style=" not in text and "aria-roledescription" not in text and "<script" not in text and "href" not in text
    # vega numbers ids on from the chart before; here they begin anew, and two widths share none
    assert text == as_svg(lambda: forest(made, WIDE), name="forest-1", says=SAYS["forest"](made))


def test_a_line_over_budgets_goes_through_the_means_of_seeds_at_what_they_used():
    made = small()
    made["levels"] = [
        {"amount": 4_000, "method": "rlhf", "seed": 1, "value": 0.8, "used": 4_100},
        {"amount": 4_000, "method": "rlhf", "seed": 0, "value": 0.6, "used": 3_900},
        {"amount": 500, "method": "rlhf", "seed": 0, "value": 0.5, "used": 490},
    ]
    rows = level_rows(made)
    assert list(rows) == ["rlhf"]
    assert [(row["a"], row["x"], row["y"]) for row in rows["rlhf"]] == [(500, 490, 50), (4_000, 3_900, 60), (4_000, 4_100, 80)]
    assert rows["rlhf"][0]["says"] == "§RLHF, seed 0, 490 of 500 labels: 50.0"
    assert means(rows["rlhf"]) == [{"a": 500, "x": 490, "y": 50}, {"a": 4_000, "x": 4_000, "y": pytest.approx(70)}]
    made["design"]["budget"]["kind"] = "seconds"
    assert level_rows(made)["rlhf"][0]["x"] == pytest.approx(490 / 60), "the axis has minutes"


def test_every_colour_of_a_figure_has_a_counterpart_on_a_dark_page():
    made = small()
    text = as_svg(lambda: forest(made, WIDE), name="f", says="")
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]+)"', text))
    assert used and used <= {colour.light for colour in COLOURS.values()}, "the page cannot theme a colour that the theme has not"


@pytest.mark.parametrize("name", ["ink", "muted", "blue", "red", "green", "grey"])
@pytest.mark.parametrize("side", ["light", "dark"])
def test_text_in_any_colour_has_contrast_enough(name, side):
    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        # WCAG 2.1, relative luminance
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    text = luminance(getattr(COLOURS[name], side))
    for ground in ("paper",) if name == "grey" else ("paper", "band"):
        low, high = sorted((text, luminance(getattr(COLOURS[ground], side))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{name} on {ground}"


def test_the_forest_is_grey_and_hollow_where_not_told_apart():
    made = comparison()
    pair = next(one for one in made["pairs"] if one["family"] == "reference" and one["a"] == "dpo")
    for verdict, colour, is_filled in (("better", "blue", True), ("worse", "red", True), ("undecided", "grey", False)):
        pair["verdict"] = verdict
        row = next(row for row in forest_rows(made)[0] if row["title"] == "DPO")
        assert row["colour"] == theme.light(colour) and (row["fill"] == row["colour"]) is is_filled


def test_the_interval_that_decides_is_drawn_where_it_is_another():
    made = comparison()
    pair = next(one for one in made["pairs"] if one["family"] == "reference" and one["a"] == "dpo")
    row = next(row for row in forest_rows(made)[0] if row["title"] == "DPO")
    assert row["low_decides"] == pytest.approx(100 * pair["low_decides"])
    pair |= {"low_decides": pair["low"], "high_decides": pair["high"]}
    row = next(row for row in forest_rows(made)[0] if row["title"] == "DPO")
    assert row["low_decides"] is None and row["high_decides"] is None

    def ticks(drawn):
        return [layer["encoding"]["x"]["field"] for layer in drawn.to_dict()["layer"] if layer["mark"]["type"] == "tick"]

    assert ticks(forest(made, WIDE)) == ["low_decides", "high_decides"], "the other methods' intervals still differ"
    for one in made["pairs"]:
        one |= {"low_decides": one["low"], "high_decides": one["high"]}
    assert ticks(forest(made, WIDE)) == []


@pytest.mark.parametrize("missing", ["low", "high", "low_decides", "high_decides"])
def test_an_end_that_is_not_known_is_not_drawn(missing):
    made = comparison()
    pair = next(one for one in made["pairs"] if one["family"] == "reference" and one["a"] == "dpo")
    pair[missing] = None
    row = next(row for row in forest_rows(made)[0] if row["title"] == "DPO")
    assert row["low_decides"] is None and row["high_decides"] is None and row[missing] is None
    assert forest(made, WIDE).to_dict()["height"] > 0


def test_one_seed_is_no_dot_beside_itself_and_a_loss_keeps_its_unit():
    assert forest_rows(one_seed())[1] == [] and len(forest_rows(comparison())[1]) == 15
    assert {row["x"] for row in forest_rows(loss())[0]} == {
        one["estimate"] for one in loss()["pairs"] if one["family"] == "reference"
    }


@pytest.mark.parametrize(("width", "row_height", "ticks"), [(WIDE, ROW, 8), (NARROW, NARROW_ROW, 5)])
def test_the_forest_holds_every_mark_with_a_little_room_and_a_band_as_wide_as_the_margin(width, row_height, ticks):
    made = comparison()
    made["design"]["margin"] = 0.5  # wider than every gain, so that it sets the axis
    rows, seeds = forest_rows(made)
    drawn = forest(made, width).to_dict()
    assert drawn["height"] == row_height * len(rows)
    assert [row["y"] for row in rows] == [place + 0.5 for place in range(len(rows))]
    by_row = {(round(row["y"], 6), row["colour"]) for row in rows}
    assert all((round(seed["y"] - 0.24, 6), seed["colour"]) in by_row for seed in seeds), "a seed stands below its method"
    axis = drawn["layer"][0]["encoding"]["x"]
    assert axis["scale"]["domain"] == pytest.approx([-50 - 4, 50 + 4]) and axis["axis"] == {"grid": True, "tickCount": ticks}
    assert drawn["layer"][0]["data"]["values"] == [{"x": -50, "to": 50, "y": 0, "end": len(rows)}]
    assert drawn["layer"][1]["encoding"]["x"] == {"datum": 0}
    assert (axis["scale"]["nice"], axis["scale"]["zero"]) == (False, False), (
        "else the axis begins at zero, or ends at a round number"
    )
    marks = {layer["mark"]["type"]: layer["mark"] for layer in drawn["layer"]}
    assert marks["point"]["filled"] and marks["point"]["opacity"] == 1
    texts = [layer["mark"] for layer in drawn["layer"] if layer["mark"]["type"] == "text"]
    assert len(texts) >= 2 and not any(text["aria"] for text in texts), "the description of the figure says it all once"
    for layer in (drawn["layer"][0], drawn["layer"][-1]):
        assert layer["encoding"]["y"]["scale"] == {"domain": [len(rows), 0], "nice": False, "zero": False}
        assert layer["encoding"]["y"]["axis"] is None
    made["design"]["margin"] = 0.001
    ends = [-0.1, *(row[key] for row in rows for key in ("low", "high", "low_decides", "high_decides"))]
    low, high = min([*ends, *(one["x"] for one in seeds)]), max([*ends, *(one["x"] for one in seeds)])
    room = 0.04 * (high - low)
    domain = forest(made, width).to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain == pytest.approx([low - room, high + room])


def test_the_axis_of_the_forest_says_over_what_and_in_which_unit():
    def title(made):
        return forest(made, WIDE).to_dict()["layer"][0]["encoding"]["x"]["title"]

    made = comparison()
    assert title(made) == "gain over SFT, points (right is better)"
    assert title(loss()) == "gain over SFT, nats (right is better)"
    sft = next(one for one in made["methods"] if one["name"] == "sft")
    for letters, shown in ((24, "x" * 24), (25, "x" * 23 + "…")):
        sft["title"] = "x" * letters
        assert title(made) == f"gain over {shown}, points (right is better)"


def test_names_of_the_forest_are_cut_and_not_its_numbers():
    made = comparison()
    sizes = {}
    for title in ("RLHF", "a method with a name of some sixty letters, which no page has room for"):
        next(one for one in made["methods"] if one["name"] == "rlhf")["title"] = title
        drawn = forest(made, WIDE).to_dict()
        sizes[title] = WIDE - drawn["width"]
        texts = [layer for layer in drawn["layer"] if layer["mark"]["type"] == "text"]
        assert [(text["mark"]["align"], text["mark"]["limit"]) for text in texts] == [("right", 190), ("left", 211)]
        assert [text["encoding"]["x"]["value"] for text in texts] == [-12, drawn["width"] + 12]
    longest = max(len(row["title"]) for row in forest_rows(comparison())[0])
    assert list(sizes.values()) == [longest * 7.5 + 16 + 225, 190 + 16 + 225]


@pytest.mark.parametrize("make", [hostile, logs])
def test_hostile_names_and_bare_logs_are_drawn(make):
    made = printable_all(make())
    text = as_svg(lambda: forest(made, NARROW), name="f", says=SAYS["forest"](made))
    assert "<script" not in text and ElementTree.fromstring(text).tag == f"{{{SVG}}}svg"


def test_vega_s_own_labels_go_and_ours_become_tooltips():
    drawn = (
        f'<svg xmlns="{SVG}"><g clip-path="url(#clip7)" role="graphics-object" aria-label="theirs"><path d="M1.23456,2"'
        ' aria-label="§ours &lt;b&gt;"/><path d=""/></g><defs><clipPath id="clip7"/></defs></svg>'
    )
    assert tidied(drawn, name="n", says="all") == (
        f'<svg xmlns="{SVG}" role="img" aria-labelledby="n-says"><desc id="n-says">all</desc><g clip-path="url(#n-1)">'
        '<path d="M1.23,2"><title>ours &lt;b&gt;</title></path></g><defs><clipPath id="n-1" /></defs></svg>'
    )


def test_lines_are_thinned_with_both_ends():
    assert thinned(list(range(1_000)), 5) == [0, 250, 500, 749, 999]  # round(749.25) = 749
    assert thinned([1, 2, 3], 5) == [1, 2, 3]


def test_axes_fit_what_they_hold():
    assert cost_axis([1.0, 10.0]) == Axis("linear", 0.0, pytest.approx(11.2))
    assert cost_axis([1.0, 100.0]).kind == "log" and cost_axis([0.0, 1.0, 100.0]).kind == "sqrt" and cost_axis([0.0]).high > 0
    assert Axis("log", 1, 100).place(10) == 0.5 and Axis("sqrt", 0, 100).place(25) == 0.5 and Axis("linear", 2, 2).place(2) == 0.5
    assert level_axis([1.0, 2.0]) == Axis("linear", 0.94, 2.06)
    assert Axis("log", 0.9, 90).values() == [1, 2, 5, 10, 20, 50] and Axis("log", 0.9, 2_000).values() == [1, 10, 100, 1_000]


def rows_within(drawn):
    """Each list of rows with a point a method, wherever it lies in a chart of panels."""
    if isinstance(drawn, dict):
        values = drawn.get("values")
        if isinstance(values, list) and values and isinstance(values[0], dict) and "is_best" in values[0]:
            yield values
        for part in drawn.values():
            yield from rows_within(part)
    elif isinstance(drawn, list):
        for part in drawn:
            yield from rows_within(part)


def test_cost_against_quality_has_each_method_with_its_interval_and_the_front_filled():
    made = comparison()
    made["methods"][2]["mean"] |= {"low": None}
    means = {one["title"]: one["mean"] for one in made["methods"]}
    minutes = {one["title"]: one["costs"]["train_seconds"] / 60 for one in made["methods"]}
    (first, *_) = (rows for rows in rows_within(costs(made, WIDE).to_dict()) if len(rows) == len(made["methods"]))
    assert {row["label"] for row in first} == set(means)
    for row in first:
        mean = means[row["label"]]
        assert row["y"] == pytest.approx(100 * mean["estimate"]) and row["x"] == pytest.approx(minutes[row["label"]])
        assert row["high"] == pytest.approx(100 * mean["high"])
        assert row["low"] == (None if mean["low"] is None else pytest.approx(100 * mean["low"]))
        beaten = any(
            minutes[other] <= minutes[row["label"]] and means[other]["estimate"] >= mean["estimate"]
            for other in means
            if other != row["label"]
        )
        assert row["is_best"] is not beaten and ("no other method beats it" in row["says"]) is row["is_best"]
        assert row["fill"] == theme.light("blue" if row["is_best"] else "paper")
        assert (row["colour"], row["ink"]) == tuple(map(theme.light, ("blue", "ink") if row["is_best"] else ("grey", "muted")))


def test_labels_do_not_cover_each_other():
    axis = Axis("linear", 0, 100)
    rows = [{"x": 50, "y": 50, "label": "near", "is_best": place == 3} for place in range(12)]
    place_labels(rows, axis, axis, width=300, height=300)
    sides = [row["side"] for row in rows if row["side"]]
    # the best chose first; one place each; what finds none is left out
    assert rows[3]["side"] == "right" and len(sides) == len(set(sides)) < 12
    edge = [{"x": 100, "y": 50, "label": "at the edge", "is_best": True}]
    place_labels(edge, axis, axis, width=300, height=300)
    assert edge[0]["side"] == "left"
    # 8 letters of 6.6 pixels, 8 pixels beside the point, and 8 that may stand out: 247.2 of 300 pixels
    for x, side in ((82, "right"), (83, "left")):
        one = [{"x": x, "y": 50, "label": "8letters", "is_best": True}]
        place_labels(one, axis, axis, width=300, height=300)
        assert one[0]["side"] == side
    # the second has room where its label ends before the point of the first
    for x, side in ((28, "right"), (29, "left")):
        two = [{"x": at, "y": 50, "label": "8letters", "is_best": best} for at, best in ((50, True), (x, False))]
        place_labels(two, axis, axis, width=300, height=300)
        assert (two[0]["side"], two[1]["side"]) == ("right", side)


def test_yardsticks_and_audits_are_those_of_the_json():
    made = comparison()
    one = next(one for one in made["methods"] if one["name"] == "rlhf")
    rows = yardstick_rows(one, "RLHF")
    assert [(row["yardstick"], row["k"]) for row in rows] == [
        *(("pass", k) for k in (1, 2, 4, 8)),
        *(("majority", k) for k in (2, 4, 8)),
        ("best_of", 4),
    ]
    assert rows[0]["y"] == pytest.approx(100 * one["yardsticks"]["pass"]["1"]["estimate"])
    audit = proxy_rows(one)
    # 3 seeds × (13 points + 4 of best of n) × proxy and gold
    assert len(audit) == 3 * 17 * 2 and sum(row["is_last"] for row in audit) == 3 * 2 * 2
