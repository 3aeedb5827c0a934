"""Verification of equations: it finds the errors of the paper and verifies equations of the user."""

import inspect
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import compiled_quickly
from ugs_jax.commands.verify import main
from ugs_jax.curvature import BEYOND, SUPPLEMENT, Equation, derivative, table, to_json, to_latex, verify
from ugs_jax.curvature.latex import escape

COUNT = 2000
PRINTED_WRONG = {"2", "8", "9", "10"}


@pytest.fixture(scope="module")
def verdicts():
    with compiled_quickly():
        return verify(SUPPLEMENT, count=COUNT)


def mine(**changes):
    fields = {
        "number": "mine",
        "title": "second derivative of x⁴",
        "loss": lambda x: x**4,
        "variable": "x",
        "exact": lambda x: 12 * x**2,
        "domain": lambda rng, count: {"x": rng.uniform(-3, 3, count)},
    }
    return Equation(**(fields | changes))


def test_the_supplements_equations_are_all_there(verdicts):
    assert [verdict.equation for verdict in verdicts] == [str(i) for i in range(1, 12)]


def test_every_exact_form_of_the_supplement_holds(verdicts):
    assert all(verdict.exact_holds for verdict in verdicts)


def test_the_printed_forms_that_fail_are_the_known_ones(verdicts):
    assert {verdict.equation for verdict in verdicts if not verdict.printed_holds} == PRINTED_WRONG


def test_the_sign_of_equation_2_is_what_is_wrong_with_it(verdicts):
    assert next(v for v in verdicts if v.equation == "2").printed_error == pytest.approx(2, rel=1e-12)  # |−g − g|/|g|


@pytest.mark.slow
def test_every_hessian_beyond_the_supplement_holds_and_keeps_its_bound():
    with compiled_quickly():
        verdicts = verify(BEYOND, count=COUNT)
    for verdict in verdicts:
        assert verdict.exact_holds, verdict
        assert verdict.bound_holds, verdict
        assert verdict.printed_error is None


def test_equations_are_evaluated_over_the_domain_promised():
    drawn = SUPPLEMENT[9].domain(np.random.default_rng(0), 100_000)
    shift = np.abs(drawn["x"] - drawn["x_hat"]) / drawn["w"]
    assert drawn["w"].min() < 0.51
    assert drawn["w"].max() > 1980
    assert shift.min() < 1.1e-6
    assert 0.99 < shift.max() <= 0.999 + 1e-9
    assert 0.49 < np.mean(drawn["x"] > drawn["x_hat"]) < 0.51


def test_a_wrong_equation_of_the_user_is_found_with_its_place():
    (verdict,) = verify([mine(exact=lambda x: 12 * x**2 + (x > 2))], count=COUNT)
    assert not verdict.exact_holds
    assert not verdict.holds
    assert verdict.worst["x"] > 2
    assert verdict.printed_holds is None


def test_vectors_matrices_and_unused_variables_are_fine():
    equation = mine(
        loss=lambda v, a: a * jnp.sum(v**2) ** 2,
        variable="v",
        exact=lambda v, a: a * (4 * jnp.sum(v**2) * jnp.eye(3) + 8 * jnp.outer(v, v)),
        bound=lambda v, a: 12 * a * jnp.sum(v**2),
        domain=lambda rng, count: {
            "v": rng.normal(size=(count, 3)),
            "a": rng.uniform(1, 2, count),
            "b": np.ones(count),
        },
    )
    (verdict,) = verify([equation], count=COUNT)
    assert verdict.exact_holds
    assert verdict.bound_holds
    assert verdict.bound_ratio == pytest.approx(1, rel=1e-9)  # the eigenvalue along v


def test_arguments_that_the_domain_does_not_draw_keep_their_defaults():
    equation = Equation(
        number="mine",
        title="a scaled square",
        loss=lambda x, scale=3.0: scale * x**2,
        variable="x",
        order=2,
        exact=lambda x, scale=3.0: 2 * scale + 0 * x,
        domain=lambda rng, count: {"x": rng.normal(size=count)},
    )
    (verdict,) = verify([equation])
    assert verdict.exact_holds


def test_a_bound_that_is_too_low_is_found():
    (verdict,) = verify([mine(bound=lambda x: 11.9 * x**2)], count=COUNT)
    assert verdict.exact_holds
    assert not verdict.bound_holds
    assert not verdict.holds


def test_a_form_that_is_not_finite_does_not_hold():
    (verdict,) = verify([mine(exact=lambda x: 12 * x**2 + jnp.where(x > 0, jnp.nan, 0))], count=COUNT)
    assert verdict.exact_error == np.inf
    assert not verdict.exact_holds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 3}, "equation mine: expected an order of 0, 1 or 2, got 3"),
        ({"variable": None}, "equation mine: expected the variable"),
        ({"order": 1, "bound": lambda x: x}, "expected order 2 for a bound"),
        ({"tolerance": 0.0}, "expected a tolerance > 0"),
    ],
)
def test_invalid_equations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mine(**changes)


def diagnosis(**changes):
    (verdict,) = verify([mine(**changes)], count=COUNT)
    assert not verdict.exact_holds
    assert not verdict.holds
    return verdict


def test_a_loss_that_is_not_finite_does_not_hold_though_its_derivative_is():
    verdict = diagnosis(loss=jnp.log, order=1, exact=lambda x: 1 / x)
    assert verdict.exact_error == np.inf
    assert verdict.worst["x"] < 0
    assert re.fullmatch(r"the loss is not finite at (49|50|51)\.\d% of the samples, where x < 0", verdict.diagnosis)


@pytest.mark.parametrize(
    ("loss", "order", "exact", "what"),
    [
        (jnp.abs, 1, jnp.sign, "slope"),
        (jnp.abs, 2, lambda x: 0 * x, "slope"),
        (lambda x: jnp.maximum(x, 0) ** 2, 2, lambda x: jnp.where(x >= 0, 2.0, 0.0), "second derivative"),
        (jnp.floor, 1, lambda x: 0 * x, "value"),
    ],
)
def test_kinks_that_samples_hit_exactly_do_not_hold(loss, order, exact, what):
    """Autodiff returns a number there, and so does the form."""
    domain = lambda rng, count: {"x": rng.integers(0, 2, count) * rng.uniform(0.5, 0.9, count)}  # noqa: E731
    if what == "second derivative":
        exact = derivative(loss, "x", 2)  # agrees with autodiff by construction, at the kink as well
    verdict = diagnosis(loss=named(loss), order=order, exact=named(exact), domain=domain)
    assert verdict.worst["x"] == 0
    assert f"the loss has a kink near x = 0, where its {what} jumps" in verdict.diagnosis
    assert 0.4 < verdict.share < 0.6
    smooth = verify(
        [mine(loss=named(loss), order=order, exact=named(exact), domain=lambda r, n: {"x": r.uniform(0.5, 0.9, n)})]
    )
    assert smooth[0].exact_holds


def named(form):
    return lambda x: form(x=x) if "variables" in inspect.signature(form).parameters else form(x)


@pytest.mark.parametrize(
    "loss", [lambda x: x**2, lambda x: x**3, jnp.cos, lambda x: jax.nn.logsumexp(jnp.stack([x, 0.0]))]
)
@pytest.mark.parametrize("order", [1, 2])
def test_smooth_losses_have_no_kinks_at_their_minima_and_where_a_derivative_changes_its_sign(loss, order):
    domain = lambda rng, count: {"x": np.append(np.zeros(count // 2), rng.uniform(-3, 3, count - count // 2))}  # noqa: E731
    exact = derivative(loss_of_x := lambda x: loss(x), "x", order)
    (verdict,) = verify([mine(loss=loss_of_x, order=order, exact=exact, domain=domain)], count=COUNT)
    assert verdict.exact_holds
    assert (verdict.share, verdict.diagnosis) == (1, "")


def test_a_kink_along_a_diagonal_is_found_with_its_place():
    equation = mine(
        loss=lambda v: jnp.max(v),
        variable="v",
        order=1,
        exact=lambda v: 0 * v + 0.5,
        domain=lambda _, count: {"v": np.full((count, 2), 3.0)},
    )
    (verdict,) = verify([equation], count=20)
    assert not verdict.exact_holds
    assert "near v = [3., 3.], where its slope jumps" in verdict.diagnosis


@pytest.mark.parametrize(
    ("exact", "said"),
    [
        (lambda x: 24 * x**2, "form/autodiff is 2 at all samples"),
        (lambda x: -12 * x**2, "form/autodiff is -1 at all samples"),
        (
            lambda x: 12 * x**2 * jnp.where(x > 2, 3, 1),
            r"the form holds at 8\d\.\d% of the samples and fails at the others, where x > 2(\.\d+)?; "
            "there form/autodiff is 3",
        ),
        (
            lambda x: 12 * x**2 + (jnp.abs(x) > 1),
            r"the form holds at 3\d\.\d% of the samples and fails at the others, where \|x\| > 1(\.\d+)?",
        ),
        (lambda x: 12 * x**3, "the form holds at none of the samples, and form/autodiff is not constant"),
    ],
)
def test_the_error_of_a_form_is_diagnosed(exact, said):
    verdict = diagnosis(exact=exact)
    assert re.fullmatch(said, verdict.diagnosis), verdict.diagnosis


def test_two_variables_are_compared_where_that_separates_the_samples():
    verdict = diagnosis(
        loss=lambda x, x_hat: (x - x_hat) ** 3,
        exact=lambda x, x_hat: 6 * jnp.abs(x - x_hat),
        domain=lambda rng, count: {"x": rng.uniform(0, 9, count), "x_hat": rng.uniform(0, 9, count)},
    )
    assert "where x < x_hat; there form/autodiff is -1" in verdict.diagnosis


def test_latex_escapes_and_has_titles_and_bounds(verdicts):
    equations = [mine(number="50 % of a_b", title="∂²L/∂x̂² & more", bound=lambda x: 12 * x**2)]
    row = to_latex(equations, verify(equations, count=10)).splitlines()[2]
    want = r"50 \% of a\_b & $\partial ^2$L/$\partial \hat{x}^2$ \& more & -- & -- & -- & yes & 1.00 & yes \\"
    assert row == want
    shipped = to_latex([*SUPPLEMENT], verdicts)
    assert all(line.count("&") - line.count(r"\&") == 7 for line in shipped.splitlines() if line.endswith(r"\\"))
    titles = [escape(equation.title) for equation in (*SUPPLEMENT, *BEYOND)]
    assert all(title.isascii() for title in titles), [title for title in titles if not title.isascii()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variable": "y"}, "equation mine: expected a variable among x, as the domain draws, got 'y'"),
        (
            {
                "variable": "a",
                "exact": lambda a: 0 * a,
                "domain": lambda _, count: {"x": np.ones(count), "a": np.ones(count)},
            },
            "equation mine: expected a loss of the variable 'a', got a loss of x",
        ),
        ({"exact": lambda y: y}, "equation mine: expected variables among x, as the domain draws, got 'y'"),
        ({"exact": lambda x: jnp.stack([x, x])}, r"equation mine: expected a form of shape \(\), .* got \(2,\)"),
    ],
)
def test_forms_that_do_not_fit_the_loss_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        verify([mine(**changes)], count=3)


def test_the_session_stays_in_single_precision():
    verify([mine()], count=10)
    assert jnp.ones(()).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


def test_json_holds_the_named_keys_and_null_for_infinity():
    (row,) = json.loads(to_json(verify([mine(exact=lambda x: x / 0.0)], count=10)))
    assert {"equation", "printed_error", "exact_error", "printed_holds", "exact_holds"} <= set(row)
    assert row["exact_error"] is None
    assert row["exact_holds"] is False


def test_table_and_latex_have_a_row_for_each_equation(verdicts):
    lines = table(verdicts).splitlines()
    assert len(lines) == 2 + len(SUPPLEMENT)
    assert sum("FAILS" in line for line in lines) == len(PRINTED_WRONG)
    rows = [line for line in to_latex(SUPPLEMENT, verdicts).splitlines() if line.endswith(r"\\")]
    assert sum(" & no & " in row for row in rows) == len(PRINTED_WRONG)


@pytest.mark.slow
def test_the_command_succeeds_on_the_supplement_and_ours(capsys):
    assert main(["--count", "500"]) == 0
    out = capsys.readouterr().out
    assert "20 of 20 exact forms hold; printed wrong: 2, 8, 9, 10" in out


def test_the_command_fails_on_a_file_with_a_wrong_equation(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.numpy as jnp\nfrom ugs_jax.curvature import Equation\n"
        "domain = lambda rng, count: {'x': rng.uniform(1, 2, count)}\n"
        "equations = [Equation('mine', 'sin', jnp.sin, jnp.sin, domain, 'x')]\n"
    )
    assert main([str(file), "--count", "20"]) == 1
    out = capsys.readouterr().out
    assert "these do not: mine" in out
    assert "mine is worst at {'x': " in out
    assert "mine: form/autodiff is -1 at all samples" in out
    assert main([str(file), "--count", "20", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["equation"] == "mine"


@pytest.mark.parametrize("content", [None, "x = 1", "equations = []", "equations = [1]"])
def test_a_file_without_equations_is_named(content, tmp_path):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"mine.py: expected"):
        main([str(file)])


@pytest.mark.slow
def test_verify_needs_jax_and_numpy_only():
    program = (
        "import sys, importlib.abc\n"
        "class Refuse(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'flax', 'orbax', 'cv2', 'grain', 'tensorflow_datasets', 'tyro', 'rich',\n"
        "                                  'jaxtyping', 'matplotlib', 'array_record', 'tensorboardX'}:\n"
        "            raise ImportError(f'{name} is not installed here')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import ugs_jax\n"
        "from ugs_jax.stabilize import ugs_stabilize\n"
        "from ugs_jax.cli import main\n"
        "sys.exit(main(['verify', '--count', '20']))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
