"""What one save holds: from the store of a real run that is interrupted, and goes on."""

from typing import Any

from card import NOTE, WIDTH, Card
from timeline import Span, Timeline

from mainstay import Checkpoint, checkpointed
from mainstay._checkpoint.document import Document, opened
from mainstay.stores import MemoryStore
from mainstay.testing import FakeClock, recorded

ROWS = [(1, 250), (2, 199), (3, 500), (4, 120), (5, 80), (6, 310)]
TAKES = 1.0
INTERRUPTED_AT = 4
AGAIN_AFTER = 1.6


class Watched(MemoryStore):
    """A store that knows when something was saved."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.saves: list[float] = []

    def commit(self, *args: Any, **options: Any) -> Any:
        """Save."""
        self.saves.append(self.clock.now())
        return super().commit(*args, **options)


def run() -> tuple[list[list[Span]], list[float], Document]:
    """Return the items of both attempts, when it was saved, and the save that was gone on from."""
    attempts: list[list[Span]] = []
    with FakeClock() as clock:
        store = Watched(clock)

        @checkpointed(store=store, key="import-{tenant}", name="import")
        def import_rows(cp: Checkpoint, tenant: str) -> str:
            totals = cp.state({"rows": 0, "cents": 0})
            items: list[Span] = []
            attempts.append(items)
            for number, cents in cp.iterate(ROWS, key=lambda row: row[0]):
                began = clock.now()
                if number == INTERRUPTED_AT and cp.attempt == 1:
                    clock.advance(TAKES / 2)
                    items.append(Span(began, clock.now(), "cover", f"✗ {number}"))
                    raise RuntimeError("lost")
                clock.advance(TAKES)
                totals["rows"] += 1
                totals["cents"] += cents
                items.append(Span(began, clock.now(), "ok", str(number)))
            return tenant

        try:
            import_rows("acme")
        except RuntimeError:
            (run_id,) = [record.run for record, _ in store.list()]
            latest = store.load(run_id).latest
        clock.advance(AGAIN_AFTER)
        import_rows("acme")
        if latest is None:
            raise ValueError("nothing was saved")
    return attempts, store.saves, opened(latest)


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics:
        attempts, saves, document = run()
    first, second = attempts
    card = Card(
        "What one save holds",
        "A run is interrupted in its fourth item, and goes on from the save before: items 1 to 3 "
        "are not repeated. A save holds the state, the place in the source, results of steps, the "
        "work behind it and the code that did it, in one transaction.",
        height=448,
        lead="A save after each item. What was saved is never lost, and never applied twice.",
    )
    line = Timeline(card, top=82, bottom=198, seconds=second[-1].end + 0.6)
    line.axis(1.0)
    for y, name, items in ((108, "attempt 1", first), (152, "attempt 2", second)):
        line.lane(y, name)
        for item in items:
            line.span(y, item)
    card.text(
        line.x(first[-1].end) + 10, 112, "the process dies in item 4", "cover-text small over"
    )
    words = f"items 1 to {INTERRUPTED_AT - 1} are done: passed over"
    card.text(line.x(second[0].begin) - 10, 156, words, NOTE, "end")
    for save in saves:
        card.text(line.x(save), 187, "◆", "ok-text", "middle")
    line.lane(182, "saves")
    draw_save(card, line.x(saves[INTERRUPTED_AT - 2]), document)
    card.counted(
        428,
        [
            f"checkpoint_saves_total +{metrics.value('checkpoint_saves_total'):g}",
            f"checkpoint_saved_seconds_total +{metrics.value('checkpoint_saved_seconds_total'):g}",
        ],
    )
    return card.svg()


def draw_save(card: Card, x: float, document: Document) -> None:
    """Draw what a save holds, below the time line, at *x* of which it was made."""
    top = 246.0
    (cursor,) = document.cursors.values()
    fields = {
        "state": (str(document.state).replace("'", ""), "as it was between two items"),
        "place": (f"after item {cursor['last'][0]}", "and a digest of all keys so far"),
        "steps": ("results", "so that none runs twice"),
        "work": (f"{document.items} items, {document.seconds:g} s", "that need not be done again"),
        "code": (f'version "{document.code.version}"', "and a digest of its source"),
        "owner": ("token 1", "refused, if another took over"),
    }
    card.arrow((x, 220), (x, top))
    card.area(28, top, WIDTH - 56, 148, "ok")
    for index, (name, (value, why)) in enumerate(fields.items()):
        left, y = 44 + 232 * (index % 3), top + 26 + 68 * (index // 3)
        card.text(left, y, name, "ok-text bold")
        card.text(left, y + 19, value, "card-text mono")
        card.text(left, y + 36, why, "ok-text small")
