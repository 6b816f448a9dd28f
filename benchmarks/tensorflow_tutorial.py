"""The TensorFlow tutorial's DCGAN, reimplemented: the same networks, updates and batches, in a `tf.function`.

benchmarks/cpu.py runs this file with a Python interpreter that has TensorFlow and NumPy; ganzoo is not needed. Each
line of standard input holds a name and a number of steps. The program runs the steps and prints the seconds they took.
It ignores the name.

    python tensorflow_tutorial.py IMAGES.npy BATCH_SIZE
"""

import sys
import time

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

LATENTS, RATE = 100, 1e-4


def build_generator() -> tf.keras.Model:
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


def build_discriminator() -> tf.keras.Model:
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
    """Run steps for each line of standard input until it ends."""
    images = np.load(sys.argv[1], allow_pickle=False).reshape(-1, 28, 28, 1).astype("float32")
    batch_size = int(sys.argv[2])
    reals = tf.data.Dataset.from_tensor_slices((images - 127.5) / 127.5)
    batches = iter(reals.shuffle(len(images)).batch(batch_size, drop_remainder=True).repeat())
    generator, discriminator = build_generator(), build_discriminator()
    generator_optimizer, discriminator_optimizer = tf.keras.optimizers.Adam(RATE), tf.keras.optimizers.Adam(RATE)
    cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(batch: tf.Tensor) -> None:
        noise = tf.random.normal([batch_size, LATENTS])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator(noise, training=True)
            real_logits, fake_logits = discriminator(batch, training=True), discriminator(fakes, training=True)
            generator_loss = cross_entropy(tf.ones_like(fake_logits), fake_logits)
            discriminator_loss = cross_entropy(tf.ones_like(real_logits), real_logits)
            discriminator_loss += cross_entropy(tf.zeros_like(fake_logits), fake_logits)
        generator_gradients = generator_tape.gradient(generator_loss, generator.trainable_variables)
        discriminator_gradients = discriminator_tape.gradient(discriminator_loss, discriminator.trainable_variables)
        generator_optimizer.apply_gradients(zip(generator_gradients, generator.trainable_variables, strict=True))
        discriminator_optimizer.apply_gradients(
            zip(discriminator_gradients, discriminator.trainable_variables, strict=True)
        )

    step(next(batches))
    print(tf.__version__, flush=True)
    for line in sys.stdin:
        since = time.perf_counter()
        for _ in range(int(line.split()[1])):
            step(next(batches))
        discriminator.trainable_variables[0].numpy()  # waits until all steps have finished
        print(time.perf_counter() - since, flush=True)


if __name__ == "__main__":
    main()
