"""User studies: blinded samples out, ratings in, a verdict with its uncertainty.

- formats.py     study.json and the key: what the parts hand to one another
- results.py     what raters send back: sessions as JSON, answers as CSV
- page/          the rating page: `render_page(study) -> str`
- server/        hands out slots and collects answers: `create_app`, `serve`
"""
