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

_TRIALS = 100
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


_TEXTS = f"""
    CREATE OR REPLACE TEMP TABLE prompts AS
    SELECT place, held_out, {words("text")} AS words FROM (
        SELECT id AS place,
               coalesce(lower(trim(metadata->>'split')) = 'test', false)
               OR coalesce(lower(trim(inputs->>'split')) = 'test', false) AS held_out,
               coalesce(array_to_string(inputs->>'$.*', ' '), '') || ' '
               || coalesce(array_to_string(messages->>'$[*].content', ' '), '') AS text
        FROM current_cases
        UNION ALL
        SELECT place, false, any_value(input) FROM asked GROUP BY place
    )
"""

_STEP = f"""
    WITH sought AS (
        SELECT place, held_out_id, unnest({grams("words")}) AS gram, len({grams("words")}) AS size
        FROM prompts JOIN frontier USING (place)
    ), others AS (
        SELECT place, words FROM prompts WHERE place NOT IN (SELECT place FROM reached)
    ), same AS (
        SELECT others.place, min(held_out_id) AS held_out_id
        FROM prompts one JOIN frontier USING (place) JOIN others ON others.words = one.words AND one.words <> ['']
        GROUP BY others.place
    ), contained AS (
        SELECT place, min(held_out_id) AS held_out_id FROM (
            SELECT gram.place, sought.place AS from_place, any_value(held_out_id) AS held_out_id
            FROM (SELECT place, unnest({grams("words")}) AS gram FROM others) gram
            JOIN sought ON sought.gram = gram.gram AND size >= {FEWEST_GRAMS}
            GROUP BY gram.place, sought.place HAVING count(*) >= {CONTAINED} * any_value(size)
        ) GROUP BY place
    )
    SELECT place, min(held_out_id) AS held_out_id FROM (FROM same UNION ALL FROM contained) GROUP BY place
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
    connection.execute(_TEXTS)
    connection.execute("CREATE OR REPLACE TEMP TABLE frontier AS FROM reached")
    for _ in range(_TRIALS):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {_STEP}")
        if not connection.execute("SELECT count(*) FROM found").fetchall()[0][0]:
            break
        connection.execute("INSERT INTO reached FROM found")
        connection.execute("CREATE OR REPLACE TEMP TABLE frontier AS FROM found")
    return held_out
