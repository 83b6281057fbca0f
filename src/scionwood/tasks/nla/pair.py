"""A frozen base with the two halves that read it: the verbalizer and the reconstructor, each loaded when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Callable

from scionwood.errors import UserError
from scionwood.tasks.nla import fve, template
from scionwood.tasks.nla.meta import NAME, Checkpoint, check_tokens, find
from scionwood.tasks.nla.weights import HEAD, check_width, is_whole, load_whole, shared_copy

SMALL = 400e6  # bytes of weights; up to here fp32 costs little
LAST = "last"


@dataclass
class Pair:
    """What was opened, each part loaded when it is first asked for: ``model`` is the frozen base M, ``av`` says vectors in words, ``ar``
    makes vectors of words, ``layer`` is K. ``positions`` tells which vectors they were trained on."""

    base: str | None
    layer: int | None
    scale: float | None
    av_folder: Path | None = None
    ar_folder: Path | None = None
    av_meta: Checkpoint | None = None
    ar_meta: Checkpoint | None = None
    train_vectors: Path | None = None
    positions: str = LAST
    ar_reading: str = LAST
    device: str = "auto"
    dtype: str = "auto"
    echo: Callable[[str], None] = field(default=lambda line: None, repr=False)

    @cached_property
    def machine(self):
        """``(device, dtype)``, each chosen with a printed reason."""
        from scionwood.models import machine

        machine.limit_threads()
        device, why = machine.choose_device(self.device)
        self.echo(why)
        folder = self._weights_folder()
        size = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
        if self.dtype == "auto" and size <= SMALL:
            self.echo(f"dtype: fp32 (the model has {size / 1e6:.0f} MB)")
            return device, machine.choose_dtype("fp32", device)[0]
        dtype, why = machine.choose_dtype(self.dtype, device)
        self.echo(why)
        return device, dtype

    def _weights_folder(self) -> Path:
        from scionwood.models.loading import folder_of

        whole = next((f for f in (self.av_folder, self.ar_folder) if f and is_whole(f)), None)
        return whole or folder_of(self.need_base())

    def need_base(self) -> str:
        """The base's name, or a UserError where nothing names one."""
        if not self.base:
            raise UserError("this needs the base model that the activations come from; name it with --base")
        return self.base

    def need_av(self) -> None:
        """A UserError where no verbalizer was named."""
        if not self.av_folder:
            raise UserError("this needs a verbalizer; name a run with --run, or its folder with --av")

    @cached_property
    def autocast(self):
        from scionwood.training.loop import autocast_for

        return autocast_for(*self.machine)

    @cached_property
    def model(self):
        """The frozen base, as it is."""
        from scionwood.models.loading import folder_of

        self.need_base()
        model = load_whole(folder_of(self.base), f"base '{self.base}'", *self.machine)
        model.name_or_path = self.base
        if self.layer is not None and self.layer >= (count := model.config.num_hidden_layers):
            raise UserError(f"base '{self.base}': has blocks 0 to {count - 1}, but its vectors are those of block {self.layer}; name the "
                            "base that the sidecar names")
        return model

    @cached_property
    def renderer(self):
        """The prompt renderer, with the tokenizer that lies beside the weights."""
        from transformers import AutoTokenizer

        from scionwood.models.loading import first_line
        from scionwood.models.prompts import Renderer

        folder = self._weights_folder()
        try:
            return Renderer(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
        except (OSError, ValueError) as e:
            raise UserError(f"{folder}: its tokenizer cannot be read ({first_line(e)}); fetch or save tokenizer.json there anew") from None

    @cached_property
    def name(self) -> str:
        """The base as files may say it: no path of this machine."""
        from scionwood.export.source import public_name

        return public_name(self.base) if self.base else self.av_name or self.ar_name

    @property
    def av_name(self) -> str:
        return folder_name(self.av_folder) if self.av_folder else ""

    @property
    def ar_name(self) -> str:
        return folder_name(self.ar_folder) if self.ar_folder else ""

    @property
    def width(self) -> int:
        """d."""
        known = next((m.d_model for m in (self.av_meta, self.ar_meta) if m), None)
        return known if known is not None else self.model.config.get_text_config().hidden_size

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer: every control token, and what the model's own configuration names."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        own = own if isinstance(own, (list, tuple)) else [own]
        tokenizer = self.renderer.tokenizer
        return frozenset({i for i, t in tokenizer.added_tokens_decoder.items() if t.special} | {tokenizer.eos_token_id, *own}) - {None}

    @cached_property
    def spread(self) -> fve.Spread | None:
        """Mean and denominators of the vectors that both halves were trained on; None where they are not at hand."""
        if not self.train_vectors:
            return None
        from scionwood.tasks.nla.vectors import read_vectors

        return fve.fit_spread(read_vectors(self.train_vectors).values)

    @property
    def against(self) -> str:
        """Of which vectors ``spread`` is."""
        return "training vectors" if self.train_vectors else ""

    @cached_property
    def av(self):
        """The verbalizer. Raises UserError where there is none, or its sidecar, tokenizer and base do not belong together."""
        from scionwood.tasks.nla.verbalizer import Verbalizer, given_marker

        self.need_av()
        if not is_whole(self.av_folder):
            return Verbalizer.load(self.av_folder, shared_copy(self.model), self.renderer, scale=self.scale, autocast=self.autocast)
        meta = self.av_meta
        where = str(self.av_folder / NAME)
        prompt = meta.prompt_templates.av or template.AV
        if meta.tokens is None:
            raise UserError(f"{where}: has no table 'tokens', so the marker of its prompt is not known; get the sidecar it came with")
        marker = given_marker(meta.tokens, self.renderer, prompt)
        check_tokens(meta.tokens, marker, self.renderer.tokenizer, where=where)
        scale, _ = find("extraction.injection_scale", self.scale, meta)
        if not scale:
            raise UserError(f"{where}: extraction.injection_scale is missing; give the scale that it was trained with by --scale")
        model = load_whole(self.av_folder, str(self.av_folder), *self.machine)
        check_width(model, meta, self.av_folder)
        return Verbalizer(model, self.renderer, float(scale), marker=marker, prompt=prompt, autocast=self.autocast)

    @cached_property
    def ar(self):
        """The reconstructor. Raises UserError where there is none, or it does not fit tokenizer and base."""
        from scionwood.tasks.nla.reconstructor import Reconstructor, read_head

        if not self.ar_folder:
            raise UserError("this needs a reconstructor; name a run with --run, or its folder with --ar")
        if self.layer is None:
            raise UserError(f"{self.ar_folder / NAME}: does not say which layer it reads; name it with --layer")
        meta = self.ar_meta or self.av_meta
        words = (meta.prompt_templates.ar if meta else None) or template.AR
        if meta and meta.tokens:
            suffix, found = meta.tokens.critic_suffix_ids, template.ar_ids(self.renderer.tokenizer, "a", words)
            if suffix and found[-len(suffix):] != suffix:
                raise UserError(f"{self.ar_folder / NAME}: critic_suffix_ids = {suffix}, this tokenizer gives {found[-len(suffix):]}; "
                                "use the tokenizer of its base")
        more = {"words": words, "reading": self.ar_reading, "autocast": self.autocast}
        if not is_whole(self.ar_folder):
            return Reconstructor.load(self.ar_folder, self.model, self.renderer.tokenizer, self.layer, **more)
        model = load_whole(self.ar_folder, str(self.ar_folder), *self.machine, headless=True)
        if meta:
            check_width(model, meta, self.ar_folder)
        if model.config.num_hidden_layers != self.layer + 1:
            raise UserError(f"{self.ar_folder}: has {model.config.num_hidden_layers} blocks; a reconstructor of layer {self.layer} has "
                            f"{self.layer + 1}")
        head = read_head(self.ar_folder / HEAD, model.config.hidden_size)
        return Reconstructor(model, self.renderer.tokenizer, self.layer, head, **more)


def folder_name(folder: Path) -> str:
    """A folder in a word or two: the adapter of a run by its name, others by theirs."""
    return folder.parent.name if folder.name == "best" else folder.name
