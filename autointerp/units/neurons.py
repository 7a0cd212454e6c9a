"""MLP neurons: the baseline that every dictionary is compared with."""

from dataclasses import dataclass

from torch import Tensor

from autointerp.records import content_key
from autointerp.subject import Subject
from autointerp.units.base import Dense


@dataclass
class Neurons:
    """The values of `blocks.L.mlp.hook_post`, both signs.

    A gated or GELU neuron takes negative values too; clipping them away would hide half of what it
    does. So every neuron is two units, relu(x) and relu(-x).
    """

    name: str
    subject: str
    read_at: str
    n_units: int
    down_projection: Tensor | None = None
    """[n_units, d_model] what each neuron writes to the residual stream, where it is known."""

    polarities: tuple[int, ...] = (1, -1)

    @property
    def write_at(self) -> str | None:
        """The MLP's output at the same block, for hook points named as TransformerLens does."""
        if self.down_projection is None:
            return None
        return self.read_at.replace("mlp.hook_post", "hook_mlp_out")

    @classmethod
    def of(cls, name: str, subject_name: str, subject: Subject, hook_point: str) -> "Neurons":
        """The neurons at `hook_point` of a loaded subject."""
        hook = subject.hook(hook_point)
        weight = getattr(hook.module, "weight", None) if hook.side == "input" else None
        n_units = subject.width_at(hook_point)
        if weight is not None:
            # nn.Linear keeps [d_out, d_in]; GPT-2's Conv1D keeps [d_in, d_out].
            is_conv1d = type(hook.module).__name__ == "Conv1D"
            weight = weight if is_conv1d else weight.T
        return cls(name, subject_name, hook_point, n_units, weight)

    def encode(self, hidden: Tensor) -> Dense:
        """The hidden state itself, in float32."""
        return Dense(hidden.float())

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """Rows of the down projection, [len(indices), d_model]."""
        return None if self.down_projection is None else self.down_projection[indices].float()

    def fingerprint(self) -> str:
        """Depends on the hook point alone: the weights are the subject's."""
        return content_key("neurons", read_at=self.read_at)
