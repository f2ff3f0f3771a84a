"""A time line on a card: what happened when, in lanes below each other, to scale."""

import attrs
from card import NOTE, WIDTH, Anchor, Card, Tone

BAR = 28.0


@attrs.frozen
class Span:
    """Something that took time.

    Attributes:
        begin, end: In seconds.
        tone: How it ended.
        words: What stands in the bar.
    """

    begin: float
    end: float
    tone: Tone
    words: str = ""


@attrs.frozen
class Timeline:
    """Where seconds are on a card.

    Attributes:
        top, bottom: Of the lanes, in pixels.
        seconds: How many it shows.
        left, right: Where 0 and *seconds* are, in pixels.
    """

    card: Card
    top: float
    bottom: float
    seconds: float
    left: float = 140.0
    right: float = WIDTH - 40.0

    def x(self, seconds: float) -> float:
        """Return where a time is."""
        return self.left + (self.right - self.left) * seconds / self.seconds

    def axis(self, every: float, unit: str = "s", scale: float = 1.0) -> None:
        """Draw a grid with a label *every* so many seconds, in a unit of which *scale* is one."""
        for index in range(round(self.seconds / every + 1e-9) + 1):
            at = self.x(index * every)
            if at > self.right + 0.1:
                break
            self.card.line((at, self.top), (at, self.bottom), looks="card hair")
            words = f"{index * every * scale:g} {unit}"
            self.card.text(at, self.bottom + 17, words, NOTE, "middle")

    def lane(self, y: float, name: str) -> None:
        """Name a lane, whose middle is at *y*."""
        self.card.text(self.left - 14, y + 4, name, "card-text", "end")

    def span(self, y: float, span: Span) -> None:
        """Draw something that took time in the lane at *y*."""
        begin, end = self.x(span.begin), self.x(span.end)
        self.card.area(begin, y - BAR / 2, max(end - begin, 2.0), BAR, span.tone)
        if span.words:
            middle = (begin + end) / 2
            self.card.text(middle, y + 4, span.words, f"{span.tone}-text small", "middle")

    def mark(self, at: float, words: str, tone: Tone, anchor: Anchor = "middle") -> None:
        """Draw a line through all lanes at a time, and say what happens there."""
        x = self.x(at)
        self.card.line((x, self.top), (x, self.bottom), looks=f"{tone}-line dashed")
        self.card.text(x, self.top - 6, words, f"{tone}-text small", anchor)
