"""The version in production: moved forward and back, each move written down before it is made.

Two places know of it: the registry's alias is what counts, the book in PostgreSQL says who moved it
and why. A move is written down first, so nobody's reason is lost, whatever dies in between; what
then did not come through, or was moved by other means, is told apart by the alias and written
down by whoever looks next.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bikecast.errors import BikecastError, DiskFull, Locked, Refused, Unavailable
from bikecast.evaluation.card import Card
from bikecast.records import ModelVersion, Promotion
from bikecast.registry import PRODUCTION, Registry
from bikecast.store.promotions import PromotionBook, Turn

PROMOTE: Final = "promote"
ROLLBACK: Final = "rollback"
DONE: Final = "done"
UNDONE: Final = "undone"
NOTICED: Final = "noticed"

PATIENCE = 10.0
"""Seconds that a move waits for its turn: the refresher takes one every 15 s, to look around."""

BEFORE_THE_BOOK: Final = "it was in production before moves were written down"
BY_OTHER_MEANS: Final = "production was found to have been moved by other means"
NOT_THROUGH: Final = "production was found as before: the move did not come through"


@dataclass(frozen=True)
class Production:
    """Moves the alias ``production``, one command at a time.

    :param who: who does so, for the book.
    """

    registry: Registry
    book: PromotionBook
    who: str

    def put(self, version: ModelVersion, why: str, champion: ModelVersion | None) -> ModelVersion:
        """Put a version into production; nothing is written down where it is there already.

        :param champion: what it was judged against.
        :raises Refused: where another one is in production by now.
        :raises Locked: where another command is at it.
        """
        with self.book.turn(PATIENCE) as turn:
            now = self._noticed(turn)
            if number(now) != number(champion):
                raise Refused(
                    f"production was moved meanwhile: it is {number(now) or 'empty'}, no longer "
                    f"{number(champion) or 'empty'}",
                    hint="promote again, which holds it against that one",
                )
            if number(now) == version.version:
                return self.registry.put_in_production(version)
            return self._move(turn, PROMOTE, now, version, why)

    def rollback(self, why: str = ROLLBACK) -> ModelVersion:
        """Put the version that production replaced back; a second time that before it.

        :raises Refused: where production replaced none; :raises OtherRelease: where this release
            cannot ask that version, and production stays as it is.
        :raises Locked: where another command is at it.
        """
        with self.book.turn(PATIENCE) as turn:
            self._noticed(turn)
            now = self.registry.get(PRODUCTION)
            before = former(turn.all(), now.previous)
            if not before:
                raise Refused(
                    f"version {now.version} is the first in production",
                    hint="train and promote another",
                )
            earlier = self.registry.get(before)
            # A file that cannot be had now says nothing against it, and must not keep a worse one.
            with suppress(DiskFull, Unavailable):
                self.registry.load(earlier)
            return self._move(turn, ROLLBACK, now, earlier, why)

    def notice(self) -> None:
        """Write down what was moved by other means; nothing where somebody is at it right now."""
        with suppress(Locked), self.book.turn() as turn:
            self._noticed(turn)

    def card(self, version: ModelVersion) -> Card:
        """All that is known of a version, who put it into production included."""
        return self.registry.card(version, self.moves())

    def moves(self) -> list[Promotion]:
        """Those that were made, the oldest first."""
        return made(self.book.all())

    def _move(
        self, turn: Turn, kind: str, now: ModelVersion | None, to: ModelVersion, why: str
    ) -> ModelVersion:
        words = {"who": self.who, "why": why, "system_id": to.system_id}
        turn.add(kind, number(now), to.version, **words)
        put = self.registry.put_in_production if kind == PROMOTE else self.registry.put_back
        try:
            moved = put(to)
        except BikecastError:
            # Where the registry can still be asked, the book is right at once.
            with suppress(BikecastError):
                self._noticed(turn)
            raise
        # It is moved, whatever fails now; `bikecast model show` makes the card anew at any time.
        with suppress(BikecastError):
            turn.add(DONE, number(now), to.version, **words)
            self.registry.keep_card(moved, made(turn.all()))
        return moved

    def _noticed(self, turn: Turn) -> ModelVersion | None:
        """What is in production, which is what the book says from now on."""
        now, moves = self.registry.find(PRODUCTION), turn.all()
        known = moves[-1].to_version if moves else ""
        if number(now) == known:
            return now
        kind, why = _found(moves, number(now))
        before = known if moves or now is None else now.previous
        system_id = now.system_id if now else moves[-1].system_id
        turn.add(kind, before, number(now), who=self.who, why=why, system_id=system_id)
        return now


def number(version: ModelVersion | None) -> str:
    """Of a version; empty for none."""
    return version.version if version else ""


def _found(moves: tuple[Promotion, ...], now: str) -> tuple[str, str]:
    """What became of production, where the book says otherwise: kind and reason."""
    if not moves:
        return NOTICED, BEFORE_THE_BOOK
    if moves[-1].kind in (PROMOTE, ROLLBACK) and moves[-1].from_version == now:
        return UNDONE, NOT_THROUGH
    return NOTICED, BY_OTHER_MEANS


def made(moves: tuple[Promotion, ...]) -> list[Promotion]:
    """The moves that came through."""
    kept: list[Promotion] = []
    for move in moves:
        if move.kind == UNDONE:
            kept.pop()  # it says so of the one before it
        elif move.kind != DONE:
            kept.append(move)
    return kept


def former(moves: tuple[Promotion, ...], previous: str = "") -> str:
    """The version before the one in production, as the way back goes; empty for none.

    What was gone back from is on nobody's way back, so that a second rollback goes on.

    :param previous: what the registry says that production replaced, which counts where it was
        before anything was written down.
    """
    line: list[str] = []
    for move in made(moves):
        line = line or [move.from_version]
        if move.to_version in ("", line[-1]):
            continue  # out of production, and back into it
        if move.kind != PROMOTE and line[-2:-1] == [move.to_version]:
            line.pop()
        elif move.kind == ROLLBACK:
            line[-1] = move.to_version
        else:
            line.append(move.to_version)
    known = [version for version in line if version]
    if len(known) > 1:
        return known[-2]
    return "" if any(previous in (m.from_version, m.to_version) for m in moves) else previous


def at(moves: tuple[Promotion, ...], moment: datetime) -> Promotion | None:
    """The move by which a version was in production at a moment; None before the first."""
    found = [move for move in made(moves) if move.at <= moment]
    return found[-1] if found else None
