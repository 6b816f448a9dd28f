"""The TensorFlow tutorial's DCGAN, told again: the same networks, updates and batches, in a `tf.function`.

Run by benchmarks/cpu.py with an interpreter that has TensorFlow and NumPy and nothing of ours: it reads a name and a
number of steps from each line of its input, plays them, and prints the seconds that took. The name is not looked at.

    python tensorflow_tutorial.py IMAGES.npy BATCH_SIZE
"""

import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

LATENTS, RATE = 100, 1e-4


def generator() -> tf.keras.Model:
    """(N, 100) -> (N, 28, 28, 1)."""
    return tf.keras.Sequential(
        [
            layers.Input((LATENTS,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
        ]
    )


def discriminator() -> tf.keras.Model:
    """(N, 28, 28, 1) -> (N, 1)."""
    return tf.keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def main() -> None:
    """Answer until the input ends."""
    images = np.load(sys.argv[1], allow_pickle=False).reshape(-1, 28, 28, 1).astype("float32")
    batch_size = int(sys.argv[2])
    reals = tf.data.Dataset.from_tensor_slices((images - 127.5) / 127.5)
    batches = iter(reals.shuffle(len(images)).batch(batch_size, drop_remainder=True).repeat())
    makes, judges = generator(), discriminator()
    moves_maker, moves_judge = tf.keras.optimizers.Adam(RATE), tf.keras.optimizers.Adam(RATE)
    entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(batch: tf.Tensor) -> None:
        noise = tf.random.normal([batch_size, LATENTS])
        with tf.GradientTape() as of_maker, tf.GradientTape() as of_judge:
            fakes = makes(noise, training=True)
            on_reals, on_fakes = judges(batch, training=True), judges(fakes, training=True)
            maker_loss = entropy(tf.ones_like(on_fakes), on_fakes)
            judge_loss = entropy(tf.ones_like(on_reals), on_reals) + entropy(tf.zeros_like(on_fakes), on_fakes)
        maker_moves = of_maker.gradient(maker_loss, makes.trainable_variables)
        judge_moves = of_judge.gradient(judge_loss, judges.trainable_variables)
        moves_maker.apply_gradients(zip(maker_moves, makes.trainable_variables, strict=True))
        moves_judge.apply_gradients(zip(judge_moves, judges.trainable_variables, strict=True))

    step(next(batches))
    print(tf.__version__, flush=True)
    for line in sys.stdin:
        since = time.perf_counter()
        for _ in range(int(line.split()[1])):
            step(next(batches))
        judges.trainable_variables[0].numpy()  # all of it is done
        print(time.perf_counter() - since, flush=True)


if __name__ == "__main__":
    main()
