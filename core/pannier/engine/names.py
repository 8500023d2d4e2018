"""Names for containers that were given none: a quality and a craft's or trade's person."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["generate"]

_QUALITIES = """
    able agile amber ample apt ardent blithe bold breezy brisk bright calm candid cheery civil
    clear clever cosy crisp curious dapper daring deft eager early earnest even fabled fair
    fleet fond frank free fresh gentle gifted glad golden graceful grand hale handy happy hardy
    hearty honest humble ideal jolly jovial keen kind limber lively loyal lucid lucky mellow
    merry mild mindful modest neat nimble noble patient placid plucky polite proud quick quiet
    rapid ready robust rosy sage serene sharp silver sincere sleek snug sober solid spry stable
    staunch steady sturdy sunny supple swift tender thrifty tidy tranquil trusty upbeat valiant
    vivid warm wise witty worthy zesty
"""

_PEOPLE = """
    archer baker barker basketmaker binder bowyer brazier brewer carder carter carver chandler
    cartwright collier cooper cordwainer courier currier cutler dairyman draper drover dyer
    engraver farrier fiddler fletcher forester fuller gardener gilder glazier glover grocer
    haberdasher harper hatter hauler herder hosier joiner lacemaker lorimer lutenist mason
    mercer miller milliner miner minstrel mover muleteer nailer navigator netmaker ostler packer
    painter parker pedlar piper plumber porter potter printer quarrier reeve ropemaker rower
    saddler sailmaker sailor salter sawyer scribe shepherd shipwright skinner slater smith
    spinner stainer stationer tailor tanner teamster thatcher tinker turner vintner wagoner
    wainwright warden weaver wheelwright woodward
"""


def generate(taken: Callable[[str], bool]) -> str:
    """Return a name such as ``steady_cooper`` that is not taken, with a number if need be."""
    name = _draw()
    for _ in range(8):
        if not taken(name):
            return name
        name = _draw()
    while taken(numbered := f"{name}{random.randrange(10_000)}"):  # noqa: S311 - no secret
        name = _draw()
    return numbered


def _draw() -> str:
    return f"{random.choice(_QUALITIES.split())}_{random.choice(_PEOPLE.split())}"  # noqa: S311 - no secret
