"""Which texts say nearly the same: word 3-grams, in DuckDB.

Texts are compared by their words alone: lower case, letters and digits, each Han, kana or Thai character a word of its own
(those scripts do not put spaces between words). Two measures, both from statistics on paraphrased prompts: Jaccard likeness of
two answers, and containment of one prompt in another (0.6 or more found 94 % of planted paraphrases).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CONTAINED = 0.6
"""A prompt is a near-duplicate of another when it has at least this share of the other's 3-grams."""

FEWEST_GRAMS = 8
"""Shorter prompts are only compared as a whole: a few words in a row are in many prompts."""

_STEPS = 100
"""Most steps from a held-out prompt to its neighbours' neighbours; chains of texts end long before."""


def words(text: str) -> str:
    """SQL for the words of the text that the SQL `text` gives, as a list; [''] where there are none."""
    apart = rf"regexp_replace(lower({text}), '([\p{{Han}}\p{{Hiragana}}\p{{Katakana}}\p{{Thai}}])', ' \1 ', 'g')"
    return rf"string_split(trim(regexp_replace({apart}, '[^\p{{L}}\p{{M}}\p{{N}}]+', ' ', 'g')), ' ')"


def grams(listed: str) -> str:
    """SQL for the distinct word 3-grams (as hashes) of a list of words."""
    return (
        f"list_distinct(list_transform(list_zip({listed}, {listed}[2:], {listed}[3:], true), lambda gram: hash(gram)))"
    )


def alike(one: str, other: str) -> str:
    """SQL for columns, `likeness` the last of them: the Jaccard likeness of two texts' 3-grams, 0 to 1.

    Texts of fewer than three words are alike (1) or not (0).
    """
    # Of texts whose lengths differ by more than a fifth, hardly nine in ten 3-grams are shared: not worth the counting.
    near = f"least(len({one}), len({other})) >= greatest(len({one}), len({other})) * 0.8"
    return f"""
        CASE WHEN {near} THEN {words(one)} END AS one_words, CASE WHEN {near} THEN {words(other)} END AS other_words,
        {grams("one_words")} AS one_grams, {grams("other_words")} AS other_grams,
        len(list_intersect(one_grams, other_grams)) AS shared,
        CASE WHEN one_words IS NULL OR other_words IS NULL THEN 0.0
             WHEN len(one_words) < 3 OR len(other_words) < 3 THEN CAST(one_words = other_words AS INTEGER)::DOUBLE
             ELSE shared / (len(one_grams) + len(other_grams) - shared) END AS likeness
    """


_PROMPTS = f"""
    CREATE OR REPLACE TEMP TABLE prompts AS
    SELECT row_number() OVER () AS number, place, {words("text")} AS words FROM (
        SELECT id AS place, coalesce(array_to_string(inputs->>'$.*', ' '), '') || ' '
                            || coalesce(array_to_string(messages->>'$[*].content', ' '), '') AS text
        FROM current_cases
        UNION ALL
        SELECT place, any_value(input) FROM asked GROUP BY place
    )
"""

# Once for all steps, and by numbers: there are many more grams than prompts.
_GRAMS = (
    f"CREATE OR REPLACE TEMP TABLE prompt_grams AS SELECT number, unnest({grams('words')}) AS gram FROM prompts",
    """
    CREATE OR REPLACE TEMP TABLE prompt_words AS
    SELECT number, place, md5_number_lower(array_to_string(words, ' ')) AS text FROM prompts WHERE words <> ['']
    """,
    "DROP TABLE prompts",
    """
    CREATE OR REPLACE TEMP TABLE frontier AS
    SELECT number, place, reached.place AS held_out_id FROM prompt_words JOIN reached USING (place)
    """,
)

_STEP = f"""
    CREATE OR REPLACE TEMP TABLE found AS
    WITH sizes AS (
        SELECT number, count(*) AS size FROM prompt_grams SEMI JOIN frontier USING (number)
        GROUP BY number HAVING count(*) >= {FEWEST_GRAMS}
    ), sought AS (
        SELECT number, gram, size FROM prompt_grams JOIN sizes USING (number)
    ), near AS (
        SELECT other.number, sought.number AS from_number FROM prompt_grams other JOIN sought ON sought.gram = other.gram
        WHERE other.number <> sought.number
        GROUP BY other.number, sought.number HAVING count(*) >= {CONTAINED} * any_value(size)
        UNION ALL
        SELECT other.number, frontier.number FROM frontier JOIN prompt_words same USING (number)
        JOIN prompt_words other ON other.text = same.text
    )
    SELECT near.number, prompt_words.place, min(held_out_id) AS held_out_id
    FROM near JOIN frontier ON frontier.number = from_number JOIN prompt_words ON prompt_words.number = near.number
    WHERE prompt_words.place NOT IN (SELECT place FROM reached)
    GROUP BY near.number, prompt_words.place
"""


def find_leaks(connection: DuckDBPyConnection) -> int:
    """Make the temporary table `reached(place, held_out_id)`: held-out cases, and every prompt that says nearly what one says.

    Nearness is passed on: what is near a near-duplicate is reached as well, through whichever cases lie between. Held out is a
    case whose metadata (or inputs) say `"split": "test"`. It reads the temporary table `asked(place, input)`, where requests
    without a case stand with their text.

    Returns:
        how many cases are held out.
    """
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE reached AS SELECT id AS place, id AS held_out_id FROM current_cases
        WHERE lower(trim(metadata->>'split')) = 'test' OR lower(trim(inputs->>'split')) = 'test'
        """
    )
    held_out = int(connection.execute("SELECT count(*) FROM reached").fetchall()[0][0])
    if not held_out:
        return 0
    for query in (_PROMPTS, *_GRAMS):
        connection.execute(query)
    for _ in range(_STEPS):
        connection.execute(_STEP)
        if not connection.execute("SELECT count(*) FROM found").fetchall()[0][0]:
            break
        connection.execute("INSERT INTO reached SELECT place, held_out_id FROM found")
        connection.execute("CREATE OR REPLACE TEMP TABLE frontier AS FROM found")
    return held_out
