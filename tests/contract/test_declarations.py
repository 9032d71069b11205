"""What a class is cannot be set, and what may be set is declared: mistakes are refused when the class is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import faithface
from faithface.contract import Cache, Explainer, Maps, Method, Metric, Protocol, Scores, Value
from faithface.errors import UsageError
from faithface.specs import configure, parameters


def explainer(body: dict[str, Any], annotations: dict[str, str] | None = None) -> type[Explainer]:
    """Make a class as a module would: a body with annotations."""
    given = {"__module__": __name__, "__annotations__": annotations or {}, "explain": lambda *_: None, **body}
    return type("Mine", (Explainer,), given)


@dataclass(frozen=True)
class Tinted(Metric):
    """A metric with one parameter."""

    protocol = Protocol("tinted@1", values=(Value(), Value("dark", "lower")), cost=lambda m: f"{m.points} passes")

    points: int = 5

    def score(self, model: Any, samples: Any, maps: Any, explainer: Any = None) -> Scores:
        return Scores({})


@pytest.mark.parametrize("name", ["name", "version", "tasks", "needs", "seeded", "source", "reexplains"])
def test_what_a_class_is_cannot_become_a_parameter(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{name} would be a parameter.*method = Method\({name}="):
        explainer({name: "x"}, {name: "str"})
    with pytest.raises(TypeError, match=rf"Mine\.{name} is set in the class body.*Method\({name}="):
        explainer({name: "x"})


def test_a_parameter_without_a_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Mine\.cells has no annotation.*`cells: int = …`"):
        explainer({"cells": 7})


def test_a_mutable_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match=r"parameter cells of Mine is a list\[int\].*use tuple"):
        explainer({}, {"cells": "list[int]"})


def test_a_parameter_may_not_hide_a_method_of_the_base_class() -> None:
    with pytest.raises(TypeError, match=r"Mine\.bind hides Explainer\.bind"):
        explainer({"bind": 3}, {"bind": "int"})


def test_class_variables_constants_and_code_are_allowed() -> None:
    made = explainer({"TABLE": (1, 2), "_private": 3, "helper": lambda self: 1}, {"TABLE": "ClassVar[tuple[int, ...]]"})
    assert made.TABLE == (1, 2)

    class Below(made):  # type: ignore[misc, valid-type]
        TABLE = (3,)

    assert Below.TABLE == (3,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"needs": frozenset({"gradient"})}, 'unknown needs "gradient"; did you mean "gradients"'),
        ({"tasks": frozenset({"verify"})}, 'unknown tasks "verify"'),
        ({"needs": {"scores"}}, "needs is {'scores'}; expected frozenset"),
        ({"tasks": "pad"}, "tasks is 'pad'; expected frozenset"),
    ],
)
def test_unknown_words_are_refused_with_the_nearest(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        Method("mine", **arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"needs": frozenset({"models"})}, 'unknown needs "models"; did you mean "model"'),
        ({"better": "bigger"}, 'unknown better "bigger"'),
        ({"values": (Value("other"),)}, "the first of its values is the headline"),
        ({"values": (Value(), Value("a"), Value("a"))}, "two values have one name"),
    ],
)
def test_a_protocol_is_checked_when_it_is_made(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        Protocol("mine@1", **arguments)
    assert said in str(caught.value)


def test_parameters_are_the_fields_and_nothing_else() -> None:
    assert parameters(Tinted()) == {"points": 5}
    with pytest.raises(UsageError, match='no parameter "better"; known: points'):
        configure(Tinted(), [("better", "lower")], 'metric "tinted@1"')


def test_range_best_and_cost_may_follow_from_the_parameters() -> None:
    metric = Tinted(points=11)
    assert (metric.id, metric.cost, metric.judged_on) == ("tinted@1", "11 passes", "all")
    assert (metric.range_on(), metric.best_on()) == ((0.0, 1.0), 1.0)
    assert Protocol("mine@1", better="lower").direction() == "lower"
    assert metric.protocol.direction("dark") == "lower"


@dataclass(frozen=True)
class Wrapper(Explainer):
    """Answers for another."""

    version_of_inner: str = "7"
    method: ClassVar[Method] = Method("wrapper")

    @property
    def info(self) -> Method:
        return Method("wrapper:inner", version=self.version_of_inner)

    def explain(self, model: Any, samples: Any) -> Maps:
        raise NotImplementedError


def test_a_wrapper_says_what_it_wraps() -> None:
    assert (Wrapper.method.name, Wrapper().name, Wrapper().info.version) == ("wrapper", "wrapper:inner", "7")


def test_a_cache_computes_once_per_function_and_arguments() -> None:
    calls = []

    def double(holder: str, times: int = 2) -> str:
        calls.append((holder, times))
        return holder * times

    cache = Cache()
    assert [cache.get("ab", double), cache.get("ab", double), cache.get("ab", double, 3)] == ["abab", "abab", "ababab"]
    assert calls == [("ab", 2), ("ab", 3)]
    assert len(cache) == 2


def test_every_public_name_is_there_and_listed() -> None:
    assert set(dir(faithface)) == set(faithface.__all__)
    for name in faithface.__all__:
        assert getattr(faithface, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = faithface.nothing
