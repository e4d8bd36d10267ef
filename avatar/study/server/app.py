"""The routes of a served study. All that can be fetched is the page and the media that study.json names.

    GET    /                     the page
    GET    /media/<name>         a clip or portrait; range requests
    POST   /api/join             consent, and a code where one is asked for -> pseudonym, token, trials, what was answered before
    PUT    /api/answers/<trial>  one answer; the same as often as need be
    PUT    /api/session          attributes, environment, language, the end
    DELETE /api/session          everything of this rater

The last three want `Authorization: Bearer <token>`. There are no cookies, so that no other site can act for a rater.
"""

# no `from __future__ import annotations`: FastAPI reads them, and one names a function inside a function
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from avatar.errors import InputError
from avatar.study.formats import FORMAT, Study
from avatar.study.page import content_security_policy, render_page
from avatar.study.results import Session, session_from_json
from avatar.study.server.answers import AnswerStore, InviteError, StudyFullError
from avatar.study.server.invites import Invites
from avatar.study.server.limits import Buckets, Guard, Limits

_HEADERS = (
    ("content-security-policy", f"{content_security_policy()}; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    ("x-robots-tag", "noindex, nofollow"),
    ("cache-control", "no-store"),
)
_MEDIA_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png"}

Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
Short = Annotated[str, StringConstraints(max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Consent(_Body):
    given: Literal[True]
    adult: Literal[True]
    at: Time


class JoinBody(_Body):
    study_version: Short
    invite: Short = ""
    language: Short
    consent: Consent


class AnswerBody(_Body):
    trial: Short
    scores: dict[Short, int] = Field(max_length=10)
    replays: int = Field(ge=0, le=10_000)
    played_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    rt_s: float | None = Field(ge=0, le=1e7, allow_inf_nan=False)
    at: Time


class Attributes(_Body):
    culture: Short | None = None
    native_languages: list[Short] | None = Field(None, max_length=10)
    comment: Annotated[str, StringConstraints(max_length=2000)] | None = None


class SessionBody(_Body):
    format: int
    study_id: Short
    study_version: Short
    rater: Short
    slot: int
    language: Short
    consent: Consent
    attributes: Attributes
    environment: dict[Short, Any] = Field(max_length=30)
    started_at: Time
    finished_at: Time | None


def build_app(study: Study, folder: Path, store: AnswerStore, invites: Invites | None, limits: Limits) -> FastAPI:
    """The application; see the module. `invites` of None lets everybody in.

    Raises:
        InputError: a clip or portrait is missing from `folder`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(title="avatar study", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, limits=limits, headers=_HEADERS)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(InputError, _refused)
    _add_files(app, study, folder, render_page(study, collected=True, invited=invites is not None))
    _add_joining(app, study, store, invites, limits)
    _add_answers(app, study, store, limits)
    return app


def _invalid(_: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, RequestValidationError)
    where = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in err.errors()[:3])
    return JSONResponse({"error": f"not what the page sends: {where}"}, 422)


def _refused(_: Request, err: Exception) -> JSONResponse:
    return JSONResponse({"error": str(err)}, 422)


def _add_files(app: FastAPI, study: Study, folder: Path, page: str) -> None:
    media = _media_files(study, folder)

    @app.api_route("/", methods=["GET", "HEAD"])
    def the_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.api_route("/media/{name}", methods=["GET", "HEAD"])
    def the_media(name: str) -> FileResponse:
        path = media.get(name)  # a name is looked up, never made into a path
        if path is None:
            raise HTTPException(404)
        caching = {"cache-control": "private, max-age=86400, immutable"}
        return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=caching)


def _media_files(study: Study, folder: Path) -> dict[str, Path]:
    """By the name after media/."""
    trials = [trial for slot in (study.practice, *study.slots) for trial in slot]
    found: dict[str, Path] = {}
    for told in sorted({name for trial in trials for name in (trial.clip, trial.portrait) if name is not None}):
        directory, _, name = told.partition("/")
        path = folder / told
        if directory != "media" or "/" in name or path.suffix not in _MEDIA_TYPES:
            raise InputError(f"{folder}: study.json names {told!r}; clips and portraits are media/*.mp4, .jpg or .png")
        if not path.is_file():
            raise InputError(
                f"{path} is missing, though study.json names it; copy the whole folder, or export it again"
            )
        found[name] = path
    return found


def _add_joining(app: FastAPI, study: Study, store: AnswerStore, invites: Invites | None, limits: Limits) -> None:
    joins = Buckets(limits.joins_per_min / 60, limits.joins_per_min)
    wrong_codes = Buckets(limits.wrong_codes_per_min / 60, limits.wrong_codes_per_min)

    @app.post("/api/join")
    def join(body: JoinBody, request: Request) -> dict[str, Any]:
        address = request.client.host if request.client else ""
        _hold_back(joins, address)
        if body.study_version != study.version:
            raise HTTPException(412, "the study has changed; load the page again")
        if body.language not in study.languages:
            raise InputError(f"the page has no language {body.language!r}; it has {', '.join(study.languages)}")
        code = body.invite.strip()
        if invites is not None and code not in invites:
            _hold_back(wrong_codes, address)
            raise HTTPException(403, "the invitation code is not known or used up")
        uses = invites[code] if invites is not None else 1
        try:
            joined = store.join(
                body.language, body.consent.model_dump(), invite=code if invites is not None else None, uses=uses
            )
        except InviteError as err:
            raise HTTPException(403, "the invitation code is not known or used up") from err
        except StudyFullError as err:
            raise HTTPException(409, "the study has all the raters it needs") from err
        session = joined.session
        return {
            "rater": session.rater,
            "slot": session.slot,
            "token": joined.token,
            "trials": [vars(trial) for trial in study.trials_of(session.slot)],
            "practice": len(study.practice),
            "session": session.to_json() if session.environment or session.answers else None,
        }


def _add_answers(app: FastAPI, study: Study, store: AnswerStore, limits: Limits) -> None:
    buckets = Buckets(limits.answers_per_s, 200)

    def who(request: Request) -> tuple[str, int]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        rater = store.rater_of(token) if scheme.lower() == "bearer" and token else None
        if rater is None:
            raise HTTPException(401, "no session of this study", headers={"WWW-Authenticate": "Bearer"})
        _hold_back(buckets, rater[0])
        return rater

    def checked(rater: tuple[str, int], **parts: Any) -> Session:
        known = {
            "format": FORMAT,
            "study_id": study.id,
            "study_version": study.version,
            "rater": rater[0],
            "slot": rater[1],
        }
        return session_from_json({**known, "answers": [], **parts}, study, "what was sent")

    @app.put("/api/answers/{trial}")
    def put_answer(trial: str, body: AnswerBody, rater: Annotated[tuple[str, int], Depends(who)]) -> dict[str, str]:
        if trial != body.trial:
            raise InputError(f"the address names trial {trial!r}, and the answer {body.trial!r}")
        (answer,) = checked(rater, answers=[body.model_dump()]).answers
        store.put_answer(rater[0], answer)
        return {"saved": trial}

    @app.put("/api/session")
    def put_session(body: SessionBody, rater: Annotated[tuple[str, int], Depends(who)]) -> dict[str, str]:
        sent = body.model_dump(exclude_none=True)
        kept = {
            name: sent.get(name)
            for name in ("language", "consent", "attributes", "environment", "started_at", "finished_at")
        }
        if body.language not in study.languages:
            raise InputError(f"the page has no language {body.language!r}; it has {', '.join(study.languages)}")
        store.put_session(checked(rater, **kept))
        return {"saved": rater[0]}

    @app.delete("/api/session")
    def delete_session(rater: Annotated[tuple[str, int], Depends(who)]) -> dict[str, str]:
        store.delete(rater[0])
        return {"deleted": rater[0]}


def _hold_back(buckets: Buckets, name: str) -> None:
    wait_s = buckets.wait_s(name)
    if wait_s:
        raise HTTPException(429, "too often; wait and try again", headers={"Retry-After": str(int(wait_s) + 1)})
