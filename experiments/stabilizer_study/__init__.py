"""Study of the stabilizer on quadratics, single boxes and a small detector, each over many learning rates.

- `toy`: quadratics and Rosenbrock's function;
- `boxes`: boxes of 4 to 256 px under one learning rate;
- `detector`: a small detector on synthetic scenes;
- `cost`: time that the stabilizer adds to a training step;
- `report`: tables and figure in `experiments/results`, from the output of the others.
"""
