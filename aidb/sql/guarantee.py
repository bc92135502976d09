"""What the clauses of a query ask for together: aliases and percentages resolved, contradictions refused."""

from __future__ import annotations

from decimal import Decimal

from aidb.errors import SqlSyntaxError
from aidb.sql.clauses import AGGREGATE_METHODS, SECONDS, SELECTION_METHODS, Clause
from aidb.sql.cursor import Number
from aidb.sql.select_list import aggregates_in, is_aggregate
from aidb.sql.statements import Budget, Call, Guarantee
from aidb.sql.tokens import RESERVED, Token

_TARGETS = ("error", "recall", "precision", "fnr", "fpr")
_FOR_ROWS = _TARGETS[1:]
_WORDS = {
    "error": "an error target", "recall": "a recall target", "precision": "a precision target", "fnr": "FNR WITHIN",
    "fpr": "FPR WITHIN", "probability": "a probability", "budget": "a budget", "time_limit": "WITHIN with a time",
    "gap": "GAP", "seed": "a seed", "proxy": "a proxy", "oracle": "an oracle", "method": "a method",
    "verified": "VERIFIED or UNVERIFIED",
}  # fmt: skip
_EXTREMES = frozenset(("MIN", "MAX", "ARG_MIN", "ARG_MAX", "MIN_BY", "MAX_BY"))


def combine(sql: str, core: str, tokens: list[Token], clauses: list[Clause]) -> Guarantee | None:
    """One canonical `Guarantee` of all clauses, None if there is none.

    core: the query without them; it decides what fits (LIMIT for GAP, aggregates for ERROR). tokens: of ``sql``.
    SqlSyntaxError for clauses that repeat or contradict each other, or a number that can't be meant.
    """
    return _Combiner(sql, core, tokens, clauses).run() if clauses else None


class _Combiner:
    def __init__(self, sql: str, core: str, tokens: list[Token], clauses: list[Clause]) -> None:
        self.sql, self.core, self.tokens, self.clauses = sql, core, tokens, clauses
        self.given: dict[str, Clause] = {}

    def run(self) -> Guarantee:
        for clause in self.clauses:
            kind = {"within": "error", "failure": "probability"}.get(clause.kind, clause.kind)
            if earlier := self.given.get(kind):
                first = f"the first one is {self.text(earlier)}"
                raise self.fail(clause, f"a query takes {_WORDS[kind]} only once", first)
            self.given[kind] = clause
        self.check_together()
        self.check_query()
        probability = self.probability()
        rates = "fnr" in self.given or "fpr" in self.given
        error, absolute = self.error()
        proxy, oracle, method = (self.value_of(kind) for kind in ("proxy", "oracle", "method"))
        verified = self.value_of("verified")
        assert proxy is None or isinstance(proxy, Call)
        assert method is None or isinstance(method, Call)
        assert oracle is None or isinstance(oracle, str)
        assert verified is None or isinstance(verified, bool)
        gap, gap_unit = self.gap()
        return Guarantee(
            error=error,
            absolute=absolute,
            recall=self.fraction("recall"),
            precision=self.fraction("precision"),
            expected=any(clause.expected for clause in self.clauses) or (rates and probability is None),
            fnr=self.fraction("fnr"),
            fpr=self.fraction("fpr"),
            probability=0.95 if probability is None else probability,
            probability_given=probability is not None,
            budget=self.budget(),
            time_limit=self.seconds("time_limit"),
            proxy=proxy,
            oracle=oracle,
            gap=gap,
            gap_unit=gap_unit,
            method=method,
            seed=self.integer("seed", 0),
            verified=verified,
            position=self.clauses[0].position,
        )

    # checks

    def check_together(self) -> None:
        """Which clauses exclude each other."""
        given = self.given
        error = given.get("error")
        for kind in (*_FOR_ROWS, "verified"):
            if error and (clause := given.get(kind)):
                later = max(error, clause, key=lambda c: c.position)
                hint = "ERROR is about a number such as COUNT(*), the other about which rows are found"
                raise self.fail(later, f"{error.label} and {clause.label} contradict each other", hint)
        for kind in ("recall", "precision"):
            rate = given.get("fnr") or given.get("fpr")
            if rate and (clause := given.get(kind)):
                later = max(rate, clause, key=lambda c: c.position)
                hint = "FNR WITHIN 10% says the same as RECALL TARGET 90%; use one kind of target"
                raise self.fail(later, f"{rate.label} and {clause.label} contradict each other", hint)
        expected = next((clause for clause in self.clauses if clause.expected), None)
        probability = given.get("probability")
        if probability and expected:
            hint = "without EXPECTED the target holds with that probability"
            raise self.fail(probability, "a target that holds only in expectation has no probability", hint)
        if probability and not any(kind in given for kind in (*_TARGETS, "budget", "time_limit")):
            hint = "add a target, such as ERROR TARGET 5% or RECALL TARGET 90%"
            raise self.fail(probability, f"{probability.label} says how sure, but nothing says of what", hint)

    def check_query(self) -> None:
        """What the query itself rules out."""
        given = self.given
        gap = given.get("gap")
        if gap and not any(self.is_limit(token) for token in self.tokens):
            raise self.fail(gap, "GAP needs a LIMIT: it is the least distance between the rows that LIMIT returns")
        error = given.get("error")
        if error:
            self.check_estimable(error)
        rows = next((given[kind] for kind in _FOR_ROWS if kind in given), None)
        if rows and is_aggregate(self.core):
            share = rows.value if isinstance(rows.value, Number) else None
            fraction = self.fraction(rows.kind)
            hint = "for an aggregate write ERROR TARGET 5%"
            if rows.label == "ACCURACY" and share and fraction is not None:
                hint = f"for an aggregate write ERROR TARGET {_percent(float(Decimal(1) - Decimal(repr(fraction))))}"
            raise self.fail(
                rows, f"{rows.label} is about which rows are found, and this query returns an aggregate", hint
            )
        method = given.get("method")
        if method and isinstance(method.value, Call):
            fitting = AGGREGATE_METHODS if error else SELECTION_METHODS if rows else None
            if fitting and method.value.name not in fitting:
                kind = "an error target" if error else "a target on rows"
                hint = "there is " + ", ".join(fitting)
                raise self.fail(method, f"the method {method.value.name} does not serve {kind}", hint)

    def check_estimable(self, error: Clause) -> None:
        """Extremes and distinct counts can't be estimated from a sample with any guarantee."""
        for call in aggregates_in(self.core):
            if call.name in _EXTREMES:
                order = "DESC" if "MAX" in call.name else "ASC"
                by = call.argument.split(",")[-1].strip() or "x"
                message = f"{call.name} can't be estimated: a sample says nothing of the one most extreme value"
                hint = f"leave out {error.label} for the exact answer, or ask for rows: ORDER BY {by} {order} LIMIT 1"
            elif call.name == "APPROX_COUNT_DISTINCT" or (call.name == "COUNT" and call.distinct):
                message = "a distinct count can't be estimated from a sample: rare values are never seen"
                hint = f"leave out {error.label} for the exact answer"
            else:
                continue
            raise SqlSyntaxError(message, self.sql, call.position, hint)

    def is_limit(self, token: Token) -> bool:
        """A LIMIT of the query itself, not the one of ORACLE LIMIT."""
        return token.key in ("LIMIT", "FETCH") and token.depth == 0 and not self.core[token.start].isspace()

    # values

    def value_of(self, kind: str) -> object:
        clause = self.given.get(kind)
        return None if clause is None else clause.value

    def number(self, clause: Clause) -> Number:
        assert isinstance(clause.value, Number)
        return clause.value

    def fraction(self, kind: str) -> float | None:
        """A share between 0 and 1, both excluded: ``90%`` or ``0.9``; a bare 90 could be a slip either way."""
        clause = self.given.get(kind)
        if clause is None:
            return None
        number = self.number(clause)
        if number.percent:
            share = number.value / 100
        elif number.value < 1:
            share = number.value
        else:
            hint = f"write {clause.label} {_brief(number.value)}%"
            if number.value < 100:
                hint += f" or {clause.label} {_brief(number.value / 100)}"
            raise self.fail_number(
                clause, f"{clause.label} takes a percentage or a fraction below 1, not {number.text}", hint
            )
        if not 0 < float(share) < 1:  # 0.99999999999999999999 is 1 as a float
            hint = "for an exact answer leave the guarantee out" if share == 1 else ""
            raise self.fail_number(clause, f"{clause.label} must lie between 0% and 100%, not at {number.text}", hint)
        return float(share)

    def probability(self) -> float | None:
        share = self.fraction("probability")
        clause = self.given.get("probability")
        if share is None or clause is None or clause.kind != "failure":
            return share
        if (rest := float(1 - Decimal(repr(share)))) == 1:
            raise self.fail_number(clause, f"{clause.label} is too small: nothing is that sure")
        return rest

    def error(self) -> tuple[float | None, bool]:
        """The allowed error, and whether it is absolute: only ``ERROR WITHIN`` with a bare number is."""
        clause = self.given.get("error")
        if clause is None:
            return None, False
        number = self.number(clause)
        if number.percent:
            return self.fraction("error"), False
        if clause.kind == "within":
            if not 0 < float(number.value) < 1e300:
                raise self.fail_number(clause, f"{clause.label} must be more than 0, not {number.text}")
            return float(number.value), True
        written = _brief(number.value)
        if number.value < 1:
            hint = f"write {clause.label} {_brief(number.value * 100)}% or {clause.label} {written}%"
        else:
            hint = f"write {clause.label} {written}%; an error in units of the result is ERROR WITHIN {written}"
        raise self.fail_number(clause, f"{clause.label} takes a percentage, not {number.text}", hint)

    def budget(self) -> Budget | None:
        clause = self.given.get("budget")
        if clause is None:
            return None
        if clause.unit in SECONDS:
            return Budget(seconds=self.seconds("budget"))
        if clause.unit in ("USD", "EUR"):
            number = self.number(clause)
            self.check_amount(clause, number)
            return Budget(cost=float(number.value), currency=clause.unit)
        return Budget(calls=self.integer("budget", 1))

    def seconds(self, kind: str) -> float | None:
        clause = self.given.get(kind)
        if clause is None:
            return None
        number = self.number(clause)
        self.check_amount(clause, number)
        return float(number.value * Decimal(repr(SECONDS[clause.unit])))

    def gap(self) -> tuple[float | None, str | None]:
        clause = self.given.get("gap")
        if clause is None:
            return None, None
        if clause.unit in SECONDS:
            return self.seconds("gap"), "seconds"
        gap = self.integer("gap", 1)
        return (None if gap is None else float(gap)), "frames" if clause.unit == "FRAMES" else "rows"

    def integer(self, kind: str, least: int) -> int | None:
        clause = self.given.get(kind)
        if clause is None:
            return None
        number = self.number(clause)
        if number.percent or not least <= number.value < 2**63 or number.value != int(number.value):
            hint = "money is BUDGET 2.50 USD, time BUDGET 30 SECONDS" if clause.label == "BUDGET" else None
            message = f"{clause.label} takes a whole number, at least {least}, not {number.text}"
            raise self.fail_number(clause, message, hint)
        return int(number.value)

    def check_amount(self, clause: Clause, number: Number) -> None:
        if number.percent or not 1e-300 < number.value < Decimal(10) ** 15:
            raise self.fail_number(clause, f"{clause.label} takes an amount above 0, not {number.text}")

    # failing

    def text(self, clause: Clause) -> str:
        return " ".join(self.sql[clause.position : self.tokens[clause.after - 1].end].split())

    def fail(self, clause: Clause, message: str, hint: str | None = None) -> SqlSyntaxError:
        return SqlSyntaxError(message, self.sql, clause.position, hint)

    def fail_number(self, clause: Clause, message: str, hint: str | None = None) -> SqlSyntaxError:
        return SqlSyntaxError(message, self.sql, self.number(clause).start, hint)


def to_sql(guarantee: Guarantee) -> str:
    """The clauses that mean this, in canonical spelling; parsing them gives the same guarantee back.

    >>> to_sql(Guarantee(recall=0.9, probability=0.99, probability_given=True, budget=Budget(calls=1000)))
    'RECALL TARGET 90% CONFIDENCE 99% ORACLE LIMIT 1000'
    """
    g = guarantee
    parts: list[str] = []
    if g.error is not None:
        parts.append(f"ERROR WITHIN {_plain(g.error)}" if g.absolute else f"ERROR TARGET {_percent(g.error)}")
    expected = "EXPECTED " if g.expected else ""
    for kind, target in (("RECALL", g.recall), ("PRECISION", g.precision)):
        if target is not None:
            parts.append(f"{expected}{kind} TARGET {_percent(target)}")
    for kind, rate in (("FNR", g.fnr), ("FPR", g.fpr)):
        if rate is not None:
            parts.append(f"{kind} WITHIN {_percent(rate)}")
    if g.probability_given:
        parts.append(f"CONFIDENCE {_percent(g.probability)}")
    if g.budget:
        parts.append(_budget(g.budget))
    if g.time_limit is not None:
        parts.append(f"WITHIN {_plain(g.time_limit)} SECONDS")
    if g.proxy:
        parts.append(f"USING PROXY {_call(g.proxy)}")
    if g.oracle is not None:
        parts.append(f"BY ORACLE {quoted(g.oracle)}")
    if g.gap is not None:
        parts.append(f"GAP {_plain(g.gap)} {(g.gap_unit or 'rows').upper()}")
    if g.method:
        parts.append(f"METHOD {_call(g.method)}")
    if g.seed is not None:
        parts.append(f"SEED {g.seed}")
    if g.verified is not None:
        parts.append("VERIFIED" if g.verified else "UNVERIFIED")
    return " ".join(parts)


def _budget(budget: Budget) -> str:
    if budget.calls is not None:
        return f"ORACLE LIMIT {budget.calls}"
    if budget.cost is not None:
        return f"BUDGET {_plain(budget.cost)} {budget.currency}"
    return f"BUDGET {_plain(budget.seconds or 0.0)} SECONDS"


def _call(call: Call) -> str:
    name = quoted(call.name) if call.name else ""
    return name + ("" if call.args is None else f"({', '.join(call.args)})")


def quoted(name: str) -> str:
    """A name in double quotes where it needs them to be read as one."""
    plain = (
        name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit() and name.upper() not in RESERVED
    )
    return name if plain else '"' + name.replace('"', '""') + '"'


def _percent(share: float) -> str:
    return _plain(Decimal(repr(share)) * 100) + "%"


def _plain(number: float | Decimal) -> str:
    """A number without exponent or needless zeros."""
    text = format(number if isinstance(number, Decimal) else Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _brief(number: Decimal) -> str:
    """The same for a hint, where a number of 300 digits helps nobody."""
    text = _plain(number)
    return text if len(text) <= 20 else f"{number:.3e}"
