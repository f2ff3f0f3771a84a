"""How a picture looks: in every size, with and without colour."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mainstay._metrics import schema
from mainstay._top.choice import Choice
from mainstay._top.lines import STATES
from mainstay._top.model import Model
from mainstay._top.paint import SIXTEEN, TRUECOLOR
from mainstay._top.screen import Screen
from mainstay._top.target import Target

SIZES = [(40, 12), (80, 24), (120, 40), (160, 50)]


def console(encoding="utf-8", colours="truecolor"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, color_system=colours, force_terminal=True)


def view_of(*samples):
    """Return the picture after scrapes two seconds apart of one target."""
    target = Target("localhost:8000")
    model = Model([target], every=2.0)
    for place, each in enumerate(samples):
        target.answered(each, at=2.0 * place, took=0.1)
        model.tick(2.0 * place)
    return model.view(2.0 * len(samples) - 2, 1_000.0)


def trouble(calls=0, names=("payments", "prices")):
    first, *others = names
    samples = {(name, "retry", "success"): float(calls) for name in others} | {
        (first, "breaker", "rejected"): float(calls)
    }
    return {
        "calls_total": samples,
        "breaker_state": {
            (first, state): float(state == "open") for state in schema.BREAKER_STATES
        },
        "member_state": {
            ("search", member, state): float(state == its)
            for member, its in (("eu-1", "ejected"), ("eu-2", "active"), ("us-1", "standby_cold"))
            for state in schema.MEMBER_STATES
        },
    }


TROUBLE = view_of(trouble(), trouble(40))
CALM = view_of(
    {"calls_total": {("prices", "retry", "success"): 0.0}},
    {"calls_total": {("prices", "retry", "success"): 40.0}},
)


def lines(view, choice=None, width=80, height=24, **kinds):
    drawn = Screen(console(**kinds)).lines(view, choice or Choice(), width, height)
    return [line.plain.rstrip() for line in drawn]


def test_the_first_line_is_the_verdict_with_names():
    top = lines(TROUBLE)
    assert top[0].startswith(" 1 failing   payments breaker open")
    assert top[1] == " 1 degraded  search eu-1 out, 1 of 3 serve"


def test_when_all_is_well_one_calm_line_says_so_and_nothing_is_red():
    drawn = Screen(console()).lines(CALM, Choice(), 80, 24)
    assert drawn[0].plain.startswith(" ● all well   1 component, 20 calls/s")
    styles = {str(span.style) for line in drawn[3:] for span in line.spans}
    assert {TRUECOLOR["worst"], TRUECOLOR["filled"]} & styles == set()


def test_before_the_first_answer_nothing_is_said_to_be_well():
    view = Model([Target("a")], every=2.0).view(0.0, 0.0)
    assert lines(view)[0].startswith(" waiting for the first answer")


def test_before_the_second_scrape_there_are_names_and_states_and_no_rates():
    text = "\n".join(lines(view_of(trouble(5))))
    assert "prices" in text
    assert "…" in text
    assert "✗ eu-1 ejected" in text


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("view", [TROUBLE, CALM], ids=["trouble", "calm"])
@pytest.mark.parametrize("choice", [Choice(), Choice(has_help=True), Choice(component="payments")])
def test_every_size_is_filled_exactly(view, width, height, choice):
    drawn = Screen(console()).lines(view, choice, width, height)
    assert len(drawn) == height
    assert max(line.cell_len for line in drawn) <= width


def test_wider_terminals_show_more():
    headings = [lines(TROUBLE, width=width)[3].split() for width in (40, 60, 80, 120, 160)]
    assert [len(each) for each in headings] == sorted(len(each) for each in headings)
    assert headings[0] == ["CALLS", "calls/s", "err.", "p95"]
    assert {"p50", "recov.", "att."} <= {*headings[-1]}


def test_names_may_be_shorter_than_the_title_above_them():
    view = view_of(*(trouble(calls, ("db", "a")) for calls in (0, 40)))
    assert lines(view)[3].startswith("  CALLS ")


def test_short_names_leave_room_for_more():
    for name, titles in (("payments", {"recov."}), ("a-name-that-is-28-columns-wide", set())):
        view = view_of(*(trouble(calls, (name, "prices")) for calls in (0, 40)))
        text = lines(view, width=108)
        assert {*text[3].split()} & {"recov."} == titles


def test_in_a_low_terminal_what_is_well_is_folded_and_what_is_wrong_stays():
    names = ("payments", *(f"well-{number}" for number in range(20)))
    view = view_of(trouble(0, names), trouble(40, names))
    text = lines(view, height=13)
    assert "● 20 more, well   400 calls/s" in text
    assert any(line.startswith("✗ payments") for line in text)
    assert not any("well-1" in line for line in text)
    text = lines(view, height=15)
    assert [line[:8] for line in text if "well-" in line] == ["● well-0", "● well-1"]
    assert "● 18 more, well   360 calls/s" in text


def test_what_does_not_answer_any_more_is_not_said_to_be_well():
    names = ("payments", *(f"well-{number}" for number in range(20)))
    target = Target("localhost:8000")
    model = Model([target], every=2.0)
    for at in (0.0, 2.0):
        target.answered(trouble(20 * at, names), at=at, took=0.1)
        model.tick(at)
    target.failed("nobody listens there", at=4.0)
    model.tick(4.0)
    text = lines(model.view(4.0, 1_000.0), height=16)
    assert "● 19 more, no answer" in text
    assert not any("well," in line or "more, well" in line for line in text)


def test_a_run_shows_how_far_it_is_and_how_long_it_takes_still():
    def run(items):
        return {
            "checkpoint_saves_total": {("import", "ok"): 1.0},
            "checkpoint_last_save_timestamp_seconds": {("import",): 998.0},
            "checkpoint_items_total": {("import", "done"): items},
            "checkpoint_items_expected": {("import",): 20_000.0},
        }

    view = view_of(run(8_000.0), run(8_200.0))
    row = "● import    8,200 items  41 % 100/s  1m58s left  saved 2s ago"
    assert row in lines(view)
    assert any(line.startswith("● import    8,200 items  41 %") for line in lines(view, width=40))


def test_what_is_wrong_with_a_run_is_told_before_what_may_be_cut_off():
    def run(saves, failed):
        return {
            "checkpoint_saves_total": {("import", "ok"): saves, ("import", "error"): failed},
            "checkpoint_last_save_timestamp_seconds": {("import",): 998.0},
        }

    text = lines(view_of(run(1.0, 0.0), run(2.0, 1.0)), width=40)
    assert "✗ import        0 items  saves fail  sa…" in text


def test_what_finds_no_room_is_counted():
    text = lines(TROUBLE, height=8)
    assert text[-2] == "  6 more lines"


def test_without_a_height_everything_is_shown():
    names = ("payments", *(f"well-{number:02}" for number in range(60)))
    text = lines(view_of(trouble(0, names), trouble(40, names)), height=None)
    assert all(any(name in line for line in text) for name in names)


def test_a_picture_of_any_height_is_as_wide_as_a_terminal_unless_that_does_no_harm():
    def widest(**options):
        drawn = Screen(console(), once=True).lines(TROUBLE, Choice(), 30, None, **options)
        return max(line.cell_len for line in drawn)

    assert widest() <= 30 < widest(is_cut=False)


def test_once_has_neither_keys_nor_sparklines():
    drawn = Screen(console(), once=True).lines(TROUBLE, Choice(), 80, None)
    text = "\n".join(line.plain for line in drawn)
    assert "quit" not in text
    assert not set("▁▂▃▄▅▆▇█") & set(text)


def test_an_encoding_without_these_glyphs_gets_ascii():
    for choice in (Choice(), Choice(has_help=True)):
        text = "\n".join(lines(TROUBLE, choice, encoding="ascii"))
        assert text.isascii()
    assert "x payments" in "\n".join(lines(TROUBLE, encoding="ascii"))


def test_columns_stand_below_each_other_in_ascii_too():
    names = ("payments", "日本語サービス", "emoji-🚀", "much-longer-than-there-is-room-for")
    view = view_of(trouble(0, names), trouble(40, names))
    for kinds in ({}, {"encoding": "ascii"}):
        text = [line for line in lines(view, **kinds) if line.endswith(" 1.00")]
        assert len({cell_len(line) for line in text}) == 1


def test_the_help_is_complete_in_every_width():
    for width in (40, 80, 120):
        text = " ".join(" ".join(lines(TROUBLE, Choice(has_help=True), width, 50)).split())
        assert "names that contain what follows; enter ends, esc clears" in text
        assert "half open" in text
        assert "…" not in text[text.index("sort: worst first") :]


def test_what_is_cut_in_the_verdict_says_so():
    view = view_of(*(trouble(calls, ("much-longer-than-there-is-room-for",)) for calls in (0, 40)))
    assert "…" in lines(view, width=40)[0]


def test_both_palettes_have_the_same_roles_and_only_what_fails_is_filled():
    assert TRUECOLOR.keys() == SIXTEEN.keys()
    for palette in (TRUECOLOR, SIXTEEN):
        assert [role for role, style in palette.items() if " on " in style] == ["filled"]


def test_sixteen_colours_are_enough():
    drawn = Screen(console(colours="standard")).lines(TROUBLE, Choice(), 80, 24)
    styles = {str(span.style) for line in drawn for span in line.spans}
    assert not any("#" in style for style in styles)


def test_every_state_has_a_glyph_and_a_colour():
    assert {*STATES} == {*schema.MEMBER_STATES, *schema.BREAKER_STATES}


def test_an_ejected_member_is_amber_where_its_pool_serves_and_red_where_it_does_not():
    for other, colour in (("active", "bad"), ("ejected", "worst")):
        states = {("db", "a", "ejected"): 1.0, ("db", "b", other): 1.0}
        drawn = Screen(console()).lines(view_of({"member_state": states}), Choice(), 80, 24)
        (line,) = [line for line in drawn if "✗ a" in line.plain]
        at = line.plain.index("✗ a")
        (style,) = [span.style for span in line.spans if span.start == at]
        assert style == TRUECOLOR[colour]


def test_a_pool_of_many_members_shows_those_that_are_out_first():
    states = {("db", f"member-{number:02}", "active"): 1.0 for number in range(30)}
    states |= {("db", "member-29", "active"): 0.0, ("db", "member-29", "ejected"): 1.0}
    (line,) = [line for line in lines(view_of({"member_state": states})) if "ejected" in line]
    assert line.startswith("▲ db    ✗ member-29 ejected ● member-00 ")
    assert line.endswith("● member-03 +25")


def test_since_when_a_breaker_is_open_is_told_also_where_processes_differ():
    here = {"breaker_state": {("payments", "open"): 1.0, ("payments", "closed"): 11.0}}
    here["breaker_state"] |= {("mail", "closed"): 12.0}
    here["breaker_since_timestamp_seconds"] = {("payments",): 886.0}
    here["calls_total"] = {("payments", "breaker", "rejected"): 40.0}
    view = view_of({**here, "calls_total": {}}, here)
    text = [line for line in lines(view, width=120) if "1 of 12" in line]
    assert text == ["✗ payments open in 1 of 12 1m54s refuses 20/s"]


def test_sort_and_filter():
    names = ("payments", "aaa", "zzz")
    view = view_of(trouble(0, names), trouble(40, names))

    def listed(**choice):
        return [
            line.split()[1]
            for line in lines(view, Choice(**choice), height=None)
            if " retry" in line or "■" in line or "─────" in line
        ][1:]

    assert listed() == ["payments", "aaa", "zzz"]
    assert listed(order="name") == ["aaa", "payments", "zzz"]
    assert listed(wanted="ZZ") == ["zzz"]


def test_one_component_shows_its_times_errors_and_members():
    samples = {
        "calls_total": {("db", "failover", "error"): 9.0},
        "call_duration_seconds_bucket": {
            ("db", "failover", "0.1"): 5.0,
            ("db", "failover", "+Inf"): 9.0,
        },
        "errors_total": {("db", "failover", "OSError"): 9.0},
        "member_state": {("db", "a", "active"): 1.0},
        "member_attempts_total": {("db", "a", "error"): 9.0},
    }
    none = {name: dict.fromkeys(values, 0.0) for name, values in samples.items()}
    none["member_state"] = samples["member_state"]
    text = lines(view_of(none, samples), Choice(component="db"))
    words = [" ".join(line.split()) for line in text]
    assert "failover: times p50 90 ms p95 100 ms p99 100 ms" in words
    assert "failover: failed attempts OSError 9" in words
    assert "member a active 4.5 attempts/s 100 % of them fail" in words


def test_keys_say_what_was_chosen():
    assert "sort: rate" in lines(TROUBLE, Choice(order="rate"))[-1]
    assert lines(TROUBLE, Choice(is_typing=True, wanted="pay"))[-1].startswith(" /pay_")
    assert "esc" in lines(TROUBLE, Choice(wanted="pay"))[-1]
    paused = lines(TROUBLE, Choice(is_paused=True))
    assert "paused" in paused[0]
    assert "go on" in paused[-1]


def test_names_cannot_write_to_the_terminal():
    names = ("evil\x1b[2J\n[red]", "wide名前" * 20)
    view = view_of(trouble(0, names), trouble(40, names))
    text = lines(view, height=None)
    assert not any("\x1b" in line for line in text)
    assert any("evil\\x1b[2J" in line for line in text)
    assert max(cell_len(line) for line in text) <= 80


@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=8, unique=True),
    st.integers(1, 200),
    st.integers(1, 60),
    st.sampled_from(["worst", "name", "rate"]),
)
def test_any_names_fit_into_any_terminal(names, width, height, order):
    view = view_of(trouble(0, names), trouble(40, names))
    drawn = Screen(console()).lines(view, Choice(order=order), width, height)
    assert len(drawn) <= max(height, 3)
    assert max(line.cell_len for line in drawn) <= width
