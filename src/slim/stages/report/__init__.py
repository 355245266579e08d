"""Stage 10: the results, as one page for people and one `metrics.json` for programs.

`gather` collects the stages' records into plain values (`records`), `findings` puts them into words and numbers,
`views` and `page` draw the page, and `terminal` draws the short table.
"""
