"""Makes conv3d_tf2onnx.onnx and frames_gru_tf2onnx.onnx: Keras nets with random weights, written by tf2onnx.

Needs tensorflow and tf2onnx, in an environment of their own: `python make_tensorflow.py FOLDER`.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers


def conv3d() -> keras.Model:
    """Return Conv3D with batch normalisation and a dense head; clips are (time, height, width, channel)."""
    clip = keras.Input((4, 16, 16, 3), name="clip")
    x = layers.Conv3D(6, 3, strides=(1, 2, 2), padding="same", use_bias=False, name="stem")(clip)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.MaxPooling3D((1, 2, 2))(x)
    x = layers.Conv3D(8, 3, padding="same", activation="swish", name="body")(x)
    return keras.Model(clip, layers.Dense(5, name="head")(layers.GlobalAveragePooling3D()(x)))


def frames_gru() -> keras.Model:
    """Return Conv2D on every frame, then a GRU over time."""
    clip = keras.Input((4, 16, 16, 3), name="clip")
    x = layers.TimeDistributed(layers.Conv2D(4, 3, strides=2, padding="same", activation="tanh", name="frame"))(clip)
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.AveragePooling2D(4))(x))
    return keras.Model(clip, layers.Dense(5, name="head")(layers.GRU(6, name="recurrent", unroll=True)(x)))


def main(folder: Path) -> None:
    """Write both files."""
    for build in (conv3d, frames_gru):
        keras.utils.set_random_seed(0)
        model = build()
        generator = np.random.default_rng(0)
        values = []
        for weight in model.weights:
            noise = generator.standard_normal(weight.shape)
            scale = 0.2 if noise.ndim < 2 else (1.5 / np.prod(noise.shape[:-1])) ** 0.5
            around = scale * noise + ("gamma" in weight.path)
            values.append(np.abs(noise) + 0.5 if "variance" in weight.path else around)
        model.set_weights(values)
        signature = (tf.TensorSpec((None, 4, 16, 16, 3), tf.float32, name="clip"),)
        path = folder / f"{build.__name__}_tf2onnx.onnx"
        tf2onnx.convert.from_keras(model, input_signature=signature, opset=17, output_path=str(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
