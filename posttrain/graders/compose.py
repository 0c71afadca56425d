"""Several graders in one: `calculate_output` is a formula over their scores."""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence

from posttrain.errors import RequestError
from posttrain.graders.interface import Grade, Grader, Sample, nearest, shortened

LONGEST_FORMULA = 1_000
Evaluate = Callable[[Mapping[str, float]], float]

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, tuple[Callable[..., float], range]] = {
    "min": (min, range(1, 100)),
    "max": (max, range(1, 100)),
    "abs": (abs, range(1, 2)),
    "floor": (math.floor, range(1, 2)),
    "ceil": (math.ceil, range(1, 2)),
    "exp": (math.exp, range(1, 2)),
    "sqrt": (math.sqrt, range(1, 2)),
    "log": (math.log, range(1, 2)),
}


class Formula:
    """Arithmetic over named scores: + - * / ^, min max abs floor ceil exp sqrt log; nothing else is read, nothing is executed.

    Raises:
        RequestError: it is no such formula, or names a score that does not exist.
    """

    def __init__(self, text: str, *, names: Sequence[str], where: str) -> None:
        self._text = text
        self._where = where
        self._names = names
        self.used: set[str] = set()
        if len(text) > LONGEST_FORMULA:
            raise RequestError(f"{where} must have at most {LONGEST_FORMULA} characters, got {len(text)}")
        try:
            tree = ast.parse(text.replace("^", "**").strip(), mode="eval")
            self._evaluate = self._compiled(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise RequestError(f"{where} is no formula: {text!r}. {self._grammar()}") from None

    def _grammar(self) -> str:
        return f"It may hold numbers, {', '.join(self._names)}, + - * / ^ and {', '.join(_FUNCTIONS)}"

    def _compiled(self, node: ast.expr) -> Evaluate:
        match node:
            case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
                number = float(value)
                return lambda scores: number
            case ast.Name(id=name):
                return self._named(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner, factor = self._compiled(operand), -1 if isinstance(sign, ast.USub) else 1
                return lambda scores: factor * inner(scores)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                apply, first, second = _OPERATORS[type(operator)], self._compiled(left), self._compiled(right)
                return lambda scores: apply(first(scores), second(scores))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
                function, counts = _FUNCTIONS[name]
                if len(arguments) not in counts:
                    counted = "one argument" if len(counts) == 1 else "arguments"
                    raise RequestError(f"{self._where}: {name} takes {counted}, got {len(arguments)}")
                inners = [self._compiled(argument) for argument in arguments]
                return lambda scores: function(*(inner(scores) for inner in inners))
        raise RequestError(f"{self._where}: {shortened(ast.unparse(node), 60)!r} may not stand in a formula. {self._grammar()}")

    def _named(self, name: str) -> Evaluate:
        if name not in self._names:
            raise RequestError(f"{self._where}: there is no grader {name}{nearest(name, self._names, 'the graders')}")
        self.used.add(name)
        return lambda scores: scores[name]

    def __call__(self, scores: Mapping[str, float]) -> float:
        """Return the formula's value.

        Raises:
            RequestError: it has none for these scores (a division by 0, a logarithm of 0, an overflow).
        """
        try:
            value = float(self._evaluate(scores))
        except (ArithmeticError, ValueError, TypeError) as error:
            value, trouble = math.nan, str(error)
        else:
            trouble = f"it is {value}"
        if not math.isfinite(value):
            given = ", ".join(f"{name}={score:g}" for name, score in scores.items())
            raise RequestError(
                f"{self._where}: {self._text} has no finite value at {given} ({trouble}). "
                "Keep it finite, with max(…, 0.001) for example"
            )
        return value


class MultiGrader:
    """Grades by several graders and combines their scores."""

    def __init__(self, graders: Mapping[str, Grader], *, calculate_output: str, pass_threshold: float, where: str) -> None:
        wrong = [name for name in graders if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in _FUNCTIONS]
        if wrong or not graders:
            rule = "letters, digits and underscores, and none a function's name"
            raise RequestError(f"{where}.graders must be named by {rule}, got {', '.join(map(repr, wrong)) or 'none'}")
        self._graders = graders
        self._formula = Formula(calculate_output, names=tuple(graders), where=f"{where}.calculate_output")
        unused = [name for name in graders if name not in self._formula.used]
        if unused:
            raise RequestError(f"{where}.calculate_output does not use {', '.join(unused)}: use it, or drop the grader")
        self._pass_threshold = pass_threshold

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        columns = {name: grader.grade(samples) for name, grader in self._graders.items()}
        return [self._combined({name: column[place] for name, column in columns.items()}) for place in range(len(samples))]

    def _combined(self, grades: Mapping[str, Grade]) -> Grade:
        parts = {name: grade.score for name, grade in grades.items()}
        score = self._formula(parts)
        is_right = score >= self._pass_threshold - 1e-9
        found = next((grade for grade in grades.values() if grade.extracted is not None), None)
        return Grade(
            score,
            is_right,
            is_partial=not is_right and any(grade.is_partial for grade in grades.values()),
            parts=parts,
            extracted=found.extracted if found else None,
            compared_with=found.compared_with if found else (),
            reason="; ".join(f"{name}: {grade.reason}" for name, grade in grades.items()),
            errors=tuple(dict.fromkeys(error for grade in grades.values() for error in grade.errors)),
        )
