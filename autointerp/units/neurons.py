"""MLP neurons: the baseline that every dictionary is compared with."""

from dataclasses import dataclass

from torch import Tensor, nn

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
    """[n_units, d_out] what each neuron writes at `write_at`, where it is known."""

    write_at: str | None = None
    """Output of the projection that reads them: `hook_mlp_out`, but not on Gemma, where a norm lies
    between the two."""

    polarities: tuple[int, ...] = (1, -1)

    @classmethod
    def of(cls, name: str, subject_name: str, subject: Subject, hook_point: str) -> "Neurons":
        """The neurons at `hook_point` of a loaded subject."""
        hook = subject.hook(hook_point)
        n_units = subject.width_at(hook_point)
        # GPT-2's Conv1D keeps [d_in, d_out]; nn.Linear keeps [d_out, d_in].
        is_conv1d = type(hook.module).__name__ == "Conv1D"
        if hook.side != "input" or not (is_conv1d or isinstance(hook.module, nn.Linear)):
            return cls(name, subject_name, hook_point, n_units)
        weight = hook.module.weight
        assert isinstance(weight, Tensor)
        paths = {module: path for path, module in subject.model.named_modules()}
        write_at = f"{paths[hook.module]}:output"
        if hook_point.endswith(".mlp.hook_post"):
            mlp_out = hook_point.replace("mlp.hook_post", "hook_mlp_out")
            if hook.module in set(subject.hook(mlp_out).module.modules()):
                write_at = mlp_out
        rows = weight if is_conv1d else weight.T
        return cls(name, subject_name, hook_point, n_units, rows, write_at)

    def encode(self, hidden: Tensor, units: slice | None = None) -> Dense:
        """The hidden state itself, in float32."""
        return Dense((hidden if units is None else hidden[:, units]).float())

    def write_directions(self, indices: list[int]) -> Tensor | None:
        """Rows of the down projection, [len(indices), d_out]."""
        return None if self.down_projection is None else self.down_projection[indices].float()

    def fingerprint(self) -> str:
        """Depends on the hook point alone: the weights are the subject's."""
        return content_key("neurons", read_at=self.read_at)
