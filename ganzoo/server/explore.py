"""ganzoo explore: a page on which a person moves through what a generator has learned."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import class_names
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.evaluation.features import last_part
from ganzoo.results.load import TrainedGenerator
from ganzoo.results.reals import PIXELS, TrainingImages
from ganzoo.server.explorer import Explorer
from ganzoo.server.view import View
from ganzoo.storage import pictures

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_Result = TypeVar("_Result")
_Endpoint = Callable[["Request"], Awaitable["Response"]]
#: images of one request, at most
_IMAGES = 64
#: training images of one answer
_NEIGHBOURS = 8
_PAGE = Path(__file__).parent / "explore.html"


def page() -> str:
    """The page: one HTML file with its script and its style."""
    return _PAGE.read_text(encoding="utf-8")


def content_security_policy(html: str) -> str:
    """A policy that lets a page run its own script and style and nothing else."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class ExploreApp:
    """The requests of the page and their answers. Images are drawn in one thread, neighbours found in another."""

    def __init__(self, explorer: Explorer, extractor: Choice | None) -> None:
        """`extractor`: training images can be compared by its features too, not only by pixels."""
        self.explorer = explorer
        #: what training images can be compared by: names for the page, and what `TrainingImages.nearest` takes
        self.spaces: dict[str, Choice | str] = {PIXELS: PIXELS}
        if extractor is not None:
            self.spaces.setdefault(last_part(str(extractor)), extractor)
        self._training_images: TrainingImages | None = None
        #: sentences about the training images: that they have changed, or that only some are compared
        self._notes: list[str] = []
        self._drawing = ThreadPoolExecutor(1, "draw")
        self._comparing = ThreadPoolExecutor(1, "compare")

    def starlette(self) -> Starlette:
        """The application, without the checks of `guard`."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        answers: Mapping[str, _Endpoint] = {
            "/": self.page,
            "/run.json": self.run,
            "/generators.json": self.generators,
            "/images.json": self.images,
            "/neighbours.json": self.neighbours,
            "/picture.png": self.picture,
            "/latents.npy": self.latents,
        }
        return Starlette(routes=[Route(path, _with_errors(answer)) for path, answer in answers.items()])

    async def page(self, request: Request) -> Response:
        """The page."""
        from starlette.responses import HTMLResponse

        html = page()
        return HTMLResponse(html, headers={"Content-Security-Policy": content_security_policy(html)})

    async def run(self, request: Request) -> Response:
        """What is known of the run, see `Explorer.facts`."""
        from starlette.responses import JSONResponse

        facts = await _in(self._drawing, self.explorer.facts)
        return JSONResponse({**facts, "spaces": list(self.spaces)})

    async def generators(self, request: Request) -> Response:
        """The generators that are saved by now."""
        from starlette.responses import JSONResponse

        return JSONResponse({"generators": await _in(self._drawing, self.explorer.saved)})

    async def images(self, request: Request) -> Response:
        """The images of the views in the parameters `view`, each with its command: PNG files as data: addresses."""
        from starlette.responses import JSONResponse

        queries = request.query_params.getlist("view")
        if not 1 <= len(queries) <= _IMAGES:
            raise UsageError(f"A request is for 1 to {_IMAGES} images, not {len(queries)}: view=QUERY for each.")
        views = [View.parse(query) for query in queries]
        return JSONResponse({"images": await _in(self._drawing, self._described, views)})

    def _described(self, views: Sequence[View]) -> list[dict[str, Any]]:
        images = self.explorer.draw(views)
        return [
            {"image": _data(image), "command": self.explorer.command(view), "sample": view.is_sample, "name": view.name}
            for image, view in zip(images, views, strict=True)
        ]

    async def neighbours(self, request: Request) -> Response:
        """The training images nearest to the image of a view, in the space that the parameter `space` names."""
        from starlette.responses import JSONResponse

        given = _parameters(request)
        space = given.pop("space", [PIXELS])[0]
        if space not in self.spaces:
            raise UsageError(f"space={space[:40]!r} is not one of {', '.join(self.spaces)}.")
        view = View.from_parameters(given)
        images = await _in(self._drawing, self.explorer.draw, [view])
        trained = await _in(self._drawing, self.explorer.generator, view.at)
        neighbours = await _in(self._comparing, self._nearest, trained, images, space)
        return JSONResponse({"space": space, "neighbours": neighbours, "notes": self._notes})

    def _nearest(self, trained: TrainedGenerator, images: Tensor, space: str) -> list[dict[str, Any]]:
        if self._training_images is None:
            self._notes.clear()
            self._training_images = TrainingImages(trained, self.explorer.zoo, "The page", self._notes.append)
        found = self._training_images.nearest(images, _NEIGHBOURS, self.spaces[space])
        names = class_names(self._training_images.dataset)
        columns = found.images[0], found.positions[0], found.labels[0], found.distances[0]
        return [
            {"image": _data(image), "index": int(index), "class": str(names[int(label)]), "distance": float(distance)}
            for image, index, label, distance in zip(*columns, strict=True)
        ]

    async def picture(self, request: Request) -> Response:
        """The image of a view as a file to keep: the one that its command writes."""
        view = View.from_parameters(_parameters(request))
        return _download(await _in(self._drawing, self._picture, view), f"{view.name}.png", "image/png")

    def _picture(self, view: View) -> bytes:
        return _png(pictures.grid(self.explorer.draw([view]), 1, row_labels=self.explorer.row_label(view)))

    async def latents(self, request: Request) -> Response:
        """The latent of a view as a file to keep: float32 (1, Z), for `ganzoo sample --latents`."""
        view = View.from_parameters(_parameters(request))
        latents = await _in(self._drawing, self.explorer.latents, view)
        data = io.BytesIO()
        np.save(data, latents.float().cpu().numpy(), allow_pickle=False)
        return _download(data.getvalue(), f"{view.name}.npy", "application/octet-stream")


async def _in(threads: ThreadPoolExecutor, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The result of a call in one of `threads`."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(threads, functools.partial(function, *arguments))


def _parameters(request: Request) -> dict[str, list[str]]:
    return {name: request.query_params.getlist(name) for name in request.query_params}


def _with_errors(answer: _Endpoint) -> _Endpoint:
    """The endpoint with errors that a user can act on as one sentence: 400 for a wrong request, 409 for other ones."""

    async def checked(request: Request) -> Response:
        from starlette.responses import JSONResponse

        try:
            return await answer(request)
        except GanzooError as error:
            return JSONResponse({"error": str(error)}, 400 if isinstance(error, UsageError) else 409)
        except (OSError, RuntimeError) as error:  # a file that is gone, a device that is full
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 409)

    return checked


def _download(data: bytes, name: str, media_type: str) -> Response:
    from starlette.responses import Response

    return Response(data, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _data(image: Tensor) -> str:
    """A uint8 image (C, H, W) as a data: address of a PNG file."""
    rows = image.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows)
    return f"data:image/png;base64,{base64.b64encode(_png(picture)).decode()}"


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
