"""The server's addresses: each reads its state from the address and fills a page."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from autointerp.browser.assets import asset
from autointerp.browser.judged import JudgedItems
from autointerp.browser.list_page import ListPages
from autointerp.browser.lists import Lister, ListState
from autointerp.browser.opened import OpenedRun
from autointerp.browser.rendering import Links, Renderer
from autointerp.browser.security import Access, Guarded
from autointerp.browser.unit_values import unit_values
from autointerp.records import AutointerpError, UnitId, UsageError

Values = dict[str, Any]


class Browser:
    """One run, its pages, and who may do what with them."""

    def __init__(self, run: OpenedRun, access: Access, *, spend: bool = False) -> None:
        """Prepare the pages; nothing heavy is loaded.

        Args:
            run: what is shown.
            access: who may ask.
            spend: whether a hosted model may be asked in trying.
        """
        from autointerp.browser.comparing import Comparing
        from autointerp.browser.maps import Maps
        from autointerp.browser.rating import Rating
        from autointerp.browser.trying import Trying
        from autointerp.browser.worker import Worker

        self.run, self.access = run, access
        self.links = Links()
        self.renderer = Renderer()
        self.lister = Lister(run)
        self.lists = ListPages(self.lister, self.renderer)
        self.judged = JudgedItems(run)
        self.worker = Worker()
        self.trying = Trying(run, spend=spend)
        self.maps = Maps(run)
        self.comparing = Comparing(run)
        self.rating = Rating(run)

    def close(self) -> None:
        """Stop what works in the background and close the files."""
        self.worker.close()
        self.run.close()

    def html(self, template: str, page: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page as an answer."""
        body = self.renderer.page(
            template, page=page, run=self.run.name, links=self.links, **values
        )
        return HTMLResponse(body, status)

    def refused(self, error: AutointerpError) -> HTMLResponse:
        """A page that says what was wrong."""
        status = 400 if isinstance(error, UsageError) else 404
        heading = "This address cannot be shown"
        return self.html("message.html.j2", "", status, heading=heading, message=str(error))

    def state(self, request: Request) -> ListState:
        """The state of the list in an address."""
        return ListState.of(request.query_params, self.run)

    def is_allowed(self, request: Request) -> bool:
        """Whether a request may rate, try and compute."""
        return self.access.is_allowed(request.scope)


def make_app(browser: Browser) -> Guarded:
    """The ASGI application of a browser."""

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(AutointerpError)
    async def refused(_: Request, error: AutointerpError) -> HTMLResponse:
        return browser.refused(error)

    @app.exception_handler(404)
    async def missing(_: Request, error: Exception) -> HTMLResponse:
        return browser.refused(AutointerpError("There is no such page."))

    _reading(app, browser)
    _computing(app, browser)
    return Guarded(_ListFirst(app, browser), browser.access)


class _ListFirst:
    """Answers the list itself and passes the rest on: finding a route takes as long as the list."""

    def __init__(self, app: FastAPI, browser: Browser) -> None:
        self.app, self.browser = app, browser

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        try:
            state = ListState.of(dict(parse_qsl(query)), self.browser.run)
            answer = self.browser.html("list.html.j2", "list", **self.browser.lists.values(state))
        except AutointerpError as error:
            answer = self.browser.refused(error)
        await answer(scope, receive, send)


def _reading(app: FastAPI, browser: Browser) -> None:
    """Pages that only read: they run in the loop, in milliseconds."""

    async def unit(request: Request) -> HTMLResponse:
        wanted = UnitId.parse("{source}/{index}".format(**request.path_params))
        state = browser.state(request)
        values = unit_values(
            browser.run, browser.lister, browser.judged, wanted, state, request.query_params
        )
        return browser.html("unit.html.j2", "unit", **values)

    # Plain routes: resolving what FastAPI could inject takes longer than reading a list.
    app.add_route("/unit/{source}/{index}", unit)

    @app.get("/go")
    async def go(request: Request) -> Response:
        unit = UnitId.parse(request.query_params.get("unit", ""))
        browser.run.facts(unit)
        return RedirectResponse(browser.links.unit(unit), 303)

    @app.get("/assets/{name}")
    async def assets(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise AutointerpError("There is no such file.")
        body, kind = found
        return Response(body, media_type=kind, headers={"cache-control": "max-age=300"})

    @app.get("/report", response_class=HTMLResponse)
    async def report(request: Request) -> Response:
        return browser.comparing.report(download="download" in request.query_params)

    @app.post("/session")
    async def session(request: Request) -> Response:
        token = (await request.body()).decode("utf-8", "replace")
        if not browser.access.is_ours(token):
            return Response(status_code=403)
        answer = Response(status_code=204)
        answer.set_cookie(browser.access.cookie, token, httponly=True, samesite="strict")
        return answer


def _computing(app: FastAPI, browser: Browser) -> None:
    """Pages that load models or resample: they work beside the loop, one after another."""

    async def beside(work: Callable[[], Values]) -> Values:
        return await asyncio.wrap_future(browser.worker.submit(work))

    @app.get("/try", response_class=HTMLResponse)
    async def trying(request: Request) -> HTMLResponse:
        allowed = browser.is_allowed(request)
        values = browser.trying.form(request.query_params)
        if allowed and values["asked"]:
            values |= await beside(partial(browser.trying.answer, values["asked"]))
        return browser.html("try.html.j2", "try", allowed=allowed, **values)

    @app.get("/map", response_class=HTMLResponse)
    async def chart(request: Request) -> HTMLResponse:
        values = browser.maps.page(request.query_params)
        return browser.html("map.html.j2", "map", allowed=browser.is_allowed(request), **values)

    @app.get("/map.json")
    async def chart_points(request: Request) -> Response:
        source, method = browser.maps.asked(request.query_params)
        points = browser.maps.kept(source, method)
        if points is None:
            if not browser.is_allowed(request):
                return JSONResponse({"error": "Open the address that was printed."}, 403)
            try:
                points = await beside(partial(browser.maps.make, source, method))
            except AutointerpError as error:
                return JSONResponse({"error": str(error)}, 409)
        return JSONResponse(points)

    @app.get("/compare", response_class=HTMLResponse)
    async def compare(request: Request) -> HTMLResponse:
        values = browser.comparing.form(request.query_params)
        allowed = browser.is_allowed(request)
        if values["asked"] and allowed:
            values |= await beside(partial(browser.comparing.answer, values["asked"]))
        return browser.html("compare.html.j2", "compare", allowed=allowed, **values)

    @app.get("/rate", response_class=HTMLResponse)
    async def rate(request: Request) -> HTMLResponse:
        allowed = browser.is_allowed(request)
        values = browser.rating.form(request.query_params)
        if allowed and values["asked"]:
            values |= await beside(partial(browser.rating.item, values["asked"]))
        return browser.html("rate.html.j2", "rate", allowed=allowed, **values)

    @app.post("/rate")
    async def rated(request: Request) -> Response:
        body = (await request.body()).decode("utf-8", "replace")
        fields = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=40))
        query = await beside(partial(browser.rating.keep, fields))
        return RedirectResponse(f"/rate?{urlencode(query)}", 303)

    @app.get("/agree", response_class=HTMLResponse)
    async def agreement(request: Request) -> HTMLResponse:
        if not browser.is_allowed(request):
            return browser.html("agree.html.j2", "rate", allowed=False, report=None)
        values = await beside(partial(browser.rating.agreement, request.query_params))
        return browser.html("agree.html.j2", "rate", allowed=True, **values)
