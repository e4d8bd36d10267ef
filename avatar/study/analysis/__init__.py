"""Ratings and the key to a report.

- table.py       sessions and key -> one row for each (rater, trial, scale)
- screening.py   whose answers do not count, and why
- describe.py    means, spreads, bootstrap intervals, breakdowns
- compare.py     Friedman, pairwise Wilcoxon with Holm, effect sizes
- mixed.py       the confirmatory model with crossed raters and items
- agreement.py   Krippendorff's alpha, ICC(2,k), hidden repeats
- order.py       does the place in the session matter?
- metrics.py     human means beside automatic metrics
- verdict.py     sentences that follow from the numbers
- figures.py, latex.py, report.py, report.html   what is written
- run.py         all of it: `analyze_study`
"""
