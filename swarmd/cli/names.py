"""Names for services whose users gave none: adjective and noun."""

from __future__ import annotations

from collections.abc import Callable

_LEFT = """
amber bold brave bright brisk calm candid clever cosmic crisp daring eager earnest fair fleet fond
frank gentle glad golden happy hardy humble jolly keen kind lively lucid lucky mellow merry mighty
modest neat nimble noble patient placid plucky polite proud quick quiet rapid ready serene sharp
silent smart snug sober solid steady sturdy sunny swift tidy trusty vivid warm wise witty zesty
"""
_RIGHT = """
alder aspen badger beaver beech birch bison cedar comet coral crane curlew cypress dolphin eagle elm
falcon fern finch fox gannet hare hawk hazel heron hornet ibex jay juniper kestrel lark larch linnet
lynx magpie maple marten merlin newt oak orchid osprey otter owl pelican petrel pine plover puffin
quail raven robin rowan salmon seal sparrow starling stork swan tern thrush walnut willow wren yew
"""


def random_name(fraction: Callable[[], float]) -> str:
    """``steady_heron``, drawn with a function that gives numbers in [0, 1)."""
    return "_".join(_pick(words.split(), fraction()) for words in (_LEFT, _RIGHT))


def _pick(words: list[str], fraction: float) -> str:
    return words[int(fraction * len(words))]
