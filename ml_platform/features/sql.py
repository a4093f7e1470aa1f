"""The SQL of sources and views: one canonical text, a closed world of inputs, and the lineage of each column.

The text is canonical by its tokens (comments, white space, line breaks and the case of words mean nothing), so that
the digest of a definition does not depend on the version of the library that parses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ml_platform.core.errors import DeclarationError

if TYPE_CHECKING:
    from sqlglot import Token, exp

__all__ = ["check_order_free", "check_query", "lineage", "normalise", "quoted", "rename_tables"]

# Their values depend on the clock, chance, the session or the disk. Without underscores, as they are compared.
_UNSTABLE: Final = frozenset(
    {
        "age",
        "currentdate",
        "currentdatetime",
        "currentsetting",
        "currenttime",
        "currenttimestamp",
        "currval",
        "genrandomuuid",
        "getcurrenttime",
        "getcurrenttimestamp",
        "getenv",
        "getvariable",
        "glob",
        "localtime",
        "localtimestamp",
        "nextval",
        "now",
        "query",
        "querytable",
        "rand",
        "random",
        "readblob",
        "readtext",
        "setseed",
        "today",
        "transactiontimestamp",
        "txidcurrent",
        "uuid",
        "uuidv4",
        "uuidv7",
        "version",
    }
)


_SQL_TYPES: Final = {
    "int64": "bigint",
    "float64": "double",
    "string": "varchar",
    "bool": "boolean",
    "timestamp": "timestamptz",
    "date": "date",
}


def quoted(name: str) -> str:
    """A DuckDB identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def normalise(sql: str, *, field: str = "sql") -> str:
    """The canonical text of a query: its tokens, words in lower case, one space between them.

    Raises:
        DeclarationError: the text has no tokens or uses unusual quoting.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
    except SqlglotError as error:
        raise DeclarationError(
            "The SQL cannot be read.", field=field, next_step="Close quotes and comments."
        ) from error
    words = [_word(token, field) for token in tokens]
    while words and words[-1] == ";":
        words.pop()
    if not words:
        raise DeclarationError("The SQL is empty.", field=field, next_step="Write one SELECT.")
    return " ".join(words)


def _word(token: Token, field: str) -> str:
    from sqlglot import TokenType

    kind = token.token_type
    if kind is TokenType.STRING:
        return "'" + token.text.replace("'", "''") + "'"
    if kind is TokenType.IDENTIFIER:
        return quoted(token.text)
    if kind.name.endswith("_STRING") or kind in (TokenType.PARAMETER, TokenType.PLACEHOLDER):
        raise DeclarationError(
            "The SQL uses a parameter or an unusual kind of string.",
            field=field,
            next_step="Use plain '…' strings and no parameters.",
        )
    return " ".join(token.text.lower().split())


def _parse(sql: str, field: str) -> exp.Query:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = sqlglot.parse(sql, read="duckdb")
    except SqlglotError as error:
        raise DeclarationError(
            "The SQL cannot be parsed.", field=field, next_step="Write one SELECT in DuckDB's dialect."
        ) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise DeclarationError("The SQL is not one query.", field=field, next_step="Write one SELECT.")
    return statements[0]


def _path(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts)


def _is_input(table: exp.Table, ctes: set[str]) -> bool:
    return _path(table) not in ctes


def _cte_names(query: exp.Query) -> set[str]:
    from sqlglot import exp

    return {cte.alias for cte in query.find_all(exp.CTE)}


def check_query(sql: str, inputs: Sequence[str], *, field: str = "sql") -> None:
    """A query over its inputs and nothing else: no clock, no random number, no file, no table function.

    Raises:
        DeclarationError: names what is not allowed and the inputs that there are.
    """
    from sqlglot import exp

    query = _parse(sql, field)
    ctes = _cte_names(query)
    used: set[str] = set()
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise DeclarationError(
                "The SQL calls a table function.", field=field, next_step="Read declared inputs only."
            )
        if _is_input(table, ctes):
            used.add(_path(table))
    if used != set(inputs):
        raise DeclarationError(
            f"The SQL reads {', '.join(sorted(used)) or 'nothing'}; declared inputs are {', '.join(sorted(inputs))}.",
            field=field,
            next_step="Declare exactly the sources that the SQL reads, by their names.",
        )
    for function in query.find_all(exp.Func):
        name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
        if name.lower().replace("_", "") in _UNSTABLE:
            raise DeclarationError(
                f"The SQL uses {name.lower()}, whose value is not in its inputs.",
                field=field,
                next_step="Use the event time and known time columns; a definition gives the same rows for ever.",
            )


def rename_tables(sql: str, names: Mapping[str, str], *, dialect: str = "duckdb") -> str:
    """The query with each input's logical name replaced by a physical one, in the dialect of an engine."""
    from sqlglot import exp

    query = _parse(sql, "sql")
    ctes = _cte_names(query)
    for table in list(query.find_all(exp.Table)):
        if _is_input(table, ctes):
            logical = _path(table)
            alias = table.alias or table.name
            table.replace(exp.alias_(exp.table_(names[logical], quoted=True), alias, table=True, quoted=True))
    return query.sql(dialect=dialect)


def check_order_free(sql: str, schemas: Mapping[str, Mapping[str, str]]) -> None:
    """Refuses aggregate functions whose result depends on the order of rows, for engines that have none.

    Counts, least and largest values are free of it; sums and means are where their argument is known to be an integer
    or a decimal.

    Raises:
        DeclarationError: names the function.
    """
    from sqlglot import exp
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify

    physical = {logical: f"i{position}" for position, logical in enumerate(sorted(schemas))}
    query: Any = _parse(rename_tables(sql, physical), "sql")
    schema: Any = {physical[name]: {c: _SQL_TYPES[k] for c, k in columns.items()} for name, columns in schemas.items()}
    typed = annotate_types(qualify(query, schema=schema, dialect="duckdb"), schema=schema, dialect="duckdb")
    exact = {*exp.DataType.INTEGER_TYPES, exp.DataType.Type.DECIMAL}
    for call in typed.find_all(exp.AggFunc):
        if isinstance(call, exp.Count | exp.Min | exp.Max):
            continue
        if isinstance(call, exp.Sum | exp.Avg) and call.this.type is not None and call.this.type.this in exact:
            continue
        raise DeclarationError(
            f"The result of {call.sql_name().lower()} depends on the order of rows, which Spark does not have.",
            field="sql",
            next_step="Use an aggregation of a feature view, which is exact, or cast the argument to a decimal.",
        )


def lineage(sql: str, schemas: Mapping[str, Mapping[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Of each output column, the (source, column) pairs that it is computed from, sorted.

    Raises:
        DeclarationError: the query reads a column that its input does not have, or has a column without a name.
    """
    return {
        column: list(pairs)
        for column, pairs in _lineage(sql, tuple((name, tuple(columns.items())) for name, columns in schemas.items()))
    }


# Tracing costs a tenth of a second, and a definition is traced again whenever it is rebuilt from its stored form.
@lru_cache(maxsize=512)
def _lineage(
    sql: str, schemas: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage as trace

    physical = {logical: f"i{position}" for position, (logical, _) in enumerate(sorted(schemas))}
    logical_of = {name: logical for logical, name in physical.items()}
    schema: dict[str, Any] = {physical[name]: dict(columns) for name, columns in schemas}
    try:
        roots = trace(None, rename_tables(sql, physical), schema=schema, dialect="duckdb")
    except (SqlglotError, ValueError) as error:
        raise DeclarationError(
            "The columns cannot be traced to the inputs.",
            field="sql",
            next_step="Select each column by its name, from columns that the inputs declare.",
        ) from error
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for column, root in roots.items():
        pairs: set[tuple[str, str]] = set()
        for node in root.walk():
            table = getattr(node.source, "name", "")
            if not node.downstream and table in logical_of:
                pairs.add((logical_of[table], node.name.split(".")[-1].strip('"')))
        found[column] = tuple(sorted(pairs))
    return tuple(found.items())
