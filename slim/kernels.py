"""Operations for which TensorFlow has a fast kernel, each with an equivalent in plain Keras.

On TensorFlow the kernel runs; on Keras' other backends the twin (`*_portable`) does. Tests compare the two.
"""

from __future__ import annotations

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


def add_bias(inputs, bias):
    """inputs [B, H, W, C] + bias [C]."""
    return tf.nn.bias_add(inputs, bias) if tf else inputs + bias


def batch_norm(inputs, gamma, beta, mean, variance, epsilon: float):
    """Batch norm by given statistics.

    Args:
      inputs: [B, H, W, C], float32 or half precision.
      gamma, beta, mean, variance: float32 [C].
      epsilon: added to the variance.

    Returns:
      [B, H, W, C], dtype of inputs.
    """
    if not tf:
        return batch_norm_portable(inputs, gamma, beta, mean, variance, epsilon)
    gamma, beta, mean, variance = (tf.convert_to_tensor(value) for value in (gamma, beta, mean, variance))
    outputs, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
    )
    return outputs


def batch_norm_portable(inputs, gamma, beta, mean, variance, epsilon: float):
    """Twin of `batch_norm`."""
    scale = gamma * ops.rsqrt(variance + epsilon)
    outputs = ops.cast(inputs, "float32") * scale + (beta - mean * scale)
    return ops.cast(outputs, inputs.dtype)


def batch_norm_training(inputs, gamma, beta, epsilon: float):
    """Batch norm by the batch's own statistics.

    Args: as `batch_norm`.

    Returns:
      outputs [B, H, W, C], mean float32 [C], unbiased variance float32 [C].
    """
    if not tf:
        return batch_norm_training_portable(inputs, gamma, beta, epsilon)
    empty = tf.constant([], tf.float32)
    gamma, beta = tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=epsilon, is_training=True
    )
    return outputs, mean, variance


def batch_norm_training_portable(inputs, gamma, beta, epsilon: float):
    """Twin of `batch_norm_training`."""
    mean, variance, unbiased = batch_statistics(inputs)
    return batch_norm_portable(inputs, gamma, beta, mean, variance, epsilon), mean, unbiased


def batch_statistics(inputs):
    """Mean, biased and unbiased variance of each channel of [B, H, W, C]: float32 [C], with gradients."""
    values = ops.cast(inputs, "float32")
    mean, variance = ops.moments(values, axes=[0, 1, 2])
    count = ops.cast(ops.prod(ops.shape(values)[:3]), "float32")
    return mean, variance, variance * count / ops.maximum(count - 1.0, 1.0)


def batch_norm_training_synced(inputs, gamma, beta, epsilon: float):
    """Batch norm by the statistics of all replicas' parts of a batch; arguments and result as `batch_norm_training`.

    Each part must have as many images. With one replica it equals `batch_norm_training_portable`.
    """
    context = tf.distribute.get_replica_context() if tf else None
    if context is None or context.num_replicas_in_sync == 1:
        return batch_norm_training_portable(inputs, gamma, beta, epsilon)
    values = ops.cast(inputs, "float32")
    mean = context.all_reduce("MEAN", ops.mean(values, axis=[0, 1, 2]))
    variance = context.all_reduce("MEAN", ops.mean(ops.square(values - mean), axis=[0, 1, 2]))
    outputs = batch_norm_portable(inputs, gamma, beta, mean, variance, epsilon)
    count = ops.cast(ops.prod(ops.shape(values)[:3]) * context.num_replicas_in_sync, "float32")
    return outputs, mean, variance * count / ops.maximum(count - 1.0, 1.0)


def fake_quantize(inputs, low, high, narrow: bool = False):
    """Rounds to the values that 8 bits can hold in a range, and back: what integer arithmetic does to a tensor.

    The range is shifted so that 0 is one of these values (Jacob et al. 2018, arXiv:1712.05877, section 3).
    Gradients pass unchanged inside the range and are 0 outside; the ends get none.

    Args:
      inputs: float32, any shape.
      low, high: ends of the range, float32 scalars, low <= 0 <= high.
      narrow: 255 values instead of 256, as weights have them.

    Returns:
      float32, shape of inputs.
    """
    if not tf:
        return fake_quantize_portable(inputs, low, high, narrow)
    low, high = (tf.stop_gradient(tf.convert_to_tensor(end)) for end in (low, high))
    return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, 8, narrow)


def fake_quantize_portable(inputs, low, high, narrow: bool = False):
    """Twin of `fake_quantize`."""
    first = 1.0 if narrow else 0.0
    low, high = ops.stop_gradient(ops.convert_to_tensor(low)), ops.stop_gradient(ops.convert_to_tensor(high))
    step = (high - low) / (255.0 - first)
    safe = ops.where(step > 0, step, ops.ones_like(step))
    zero = ops.clip(ops.floor(first - low / safe + 0.5), first, 255.0)
    clipped = ops.clip(inputs, (first - zero) * step, (255.0 - zero) * step)
    rounded = ops.floor((clipped - (first - zero) * step) / safe + 0.5) * step + (first - zero) * step
    return clipped + ops.stop_gradient(rounded - clipped)


def assign_own_copy(variable, value):
    """Sets a Keras variable; each replica sets its own copy and waits for no other, as loops require."""
    context = tf.distribute.get_replica_context() if tf else None
    if context is None or context.num_replicas_in_sync == 1:
        variable.assign(value)
    else:
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)


def part_of_batch(draw, images):
    """A replica's part of random numbers that are drawn for the whole batch, whatever the number of replicas.

    Args:
      draw: a function of the number of images that returns random numbers [images, ...].
      images: number of images of this replica, equal on all replicas; int or int32 scalar.
    """
    context = tf.distribute.get_replica_context() if tf else None
    if context is None or context.num_replicas_in_sync == 1:
        return draw(images)
    begin = images * context.replica_id_in_sync_group
    return draw(images * context.num_replicas_in_sync)[begin : begin + images]


def resize_bilinear(inputs, height, width, align_corners: bool = True):
    """Bilinear resize; not rounded.

    A side of length 1, before or after, samples the first row or column (with `align_corners`; else the middle).

    Args:
      inputs: [B, H, W, C] float.
      height, width: wanted size, ints or int32 scalars.
      align_corners: the centers of the corner pixels stay on each other; otherwise their outer edges do, as PyTorch's
        `align_corners=False` and TensorFlow's `half_pixel_centers=True` have it.

    Returns:
      [B, height, width, C] float32.
    """
    if not tf:
        return resize_bilinear_portable(inputs, height, width, align_corners)
    inputs = tf.convert_to_tensor(inputs)
    size = tf.stack([height, width])
    outputs = tf.raw_ops.ResizeBilinear(
        images=inputs, size=size, align_corners=align_corners, half_pixel_centers=not align_corners
    )
    return _with_static_size(outputs, inputs, height, width)


def resize_bilinear_training(inputs, height, width, align_corners: bool = True):
    """`resize_bilinear` for training: the same values, and on CPUs a gradient that uses all cores.

    TensorFlow's own gradient runs on one core. With aligned corners, where both sides grow by the same whole factor, as
    sides of k * stride + 1 do, the gradient is a depthwise convolution with that stride, a triangle over each axis; of
    a side of length 1 it is a sum; and where nothing changes, nothing is computed.
    """
    if not tf or not align_corners or tf.config.list_physical_devices("GPU"):
        return resize_bilinear(inputs, height, width, align_corners)
    inputs = tf.convert_to_tensor(inputs)
    rows, columns = (_whole_factor(old, new) for old, new in zip(inputs.shape[1:3], (height, width), strict=True))
    if rows is None or columns is None or (rows and columns and rows != columns):  # such convolutions have one stride
        return resize_bilinear(inputs, height, width)
    if rows == columns == 1:
        return tf.cast(inputs, tf.float32)

    @tf.custom_gradient
    def resize(maps):
        def gradient(upstream):
            return tf.cast(_strided_gradient(upstream, rows, columns), maps.dtype)

        return resize_bilinear(maps, height, width), gradient

    return resize(inputs)


def _whole_factor(old, new) -> int | None:
    """How many times longer a side becomes between its corners; 0 = its only row is repeated; None = not whole."""
    if not (isinstance(old, int) and isinstance(new, int)) or new < old:
        return None
    if old == 1:
        return 1 if new == 1 else 0
    return None if (new - 1) % (old - 1) else (new - 1) // (old - 1)


def _strided_gradient(upstream, rows: int, columns: int):
    """The gradient of maps that were enlarged by whole factors: [B, H, W, C] float32 -> [B, h, w, C]."""
    for axis, factor in ((1, rows), (2, columns)):
        if factor == 0:
            upstream = tf.reduce_sum(upstream, axis=axis, keepdims=True)
    stride, sides = max(rows, columns), [max(factor, 1) for factor in (rows, columns)]
    if stride == 0:
        return upstream
    triangles = [tf.constant([1.0 - abs(at) / side for at in range(1 - side, side)]) for side in sides]
    kernel = tf.tensordot(*triangles, axes=0)[:, :, tf.newaxis, tf.newaxis]
    kernel = tf.tile(kernel, [1, 1, upstream.shape[3], 1])
    before_and_after = [[side - 1] * 2 for side in sides]
    maps = tf.pad(upstream, [[0, 0], *before_and_after, [0, 0]])
    return tf.nn.depthwise_conv2d(maps, kernel, [1, stride, stride, 1], "VALID")


def _with_static_size(outputs, inputs, height, width):
    sides = (side if isinstance(side, int) else tf.get_static_value(side) for side in (height, width))
    outputs.set_shape([inputs.shape[0], *sides, inputs.shape[3]])
    return outputs


def resize_bilinear_portable(inputs, height, width, align_corners: bool = True):
    """Twin of `resize_bilinear`: two gathers and a blend per axis."""
    outputs = ops.cast(inputs, "float32")
    for axis, length in ((1, height), (2, width)):
        outputs = _interpolate(outputs, axis, length, align_corners)
    return outputs


def resize_nearest(inputs, height, width):
    """Nearest-neighbor resize whose corners stay on the corners (align_corners).

    A value halfway between two others goes to the one with the higher index.

    Args:
      inputs: [B, H, W, C] of any real dtype.
      height, width: wanted size, ints or int32 scalars.

    Returns:
      [B, height, width, C], dtype of inputs.
    """
    if not tf:
        return resize_nearest_portable(inputs, height, width)
    inputs = tf.convert_to_tensor(inputs)
    size = tf.stack([height, width])
    outputs = tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size, align_corners=True, half_pixel_centers=False)
    return _with_static_size(outputs, inputs, height, width)


def resize_nearest_portable(inputs, height, width):
    """Twin of `resize_nearest`: one gather per axis."""
    outputs = inputs
    for axis, length in ((1, height), (2, width)):
        position = _positions(ops.shape(outputs)[axis], length)
        low = ops.floor(position)
        index = ops.cast(low, "int32") + ops.cast(position - low >= 0.5, "int32")
        outputs = ops.take(outputs, ops.minimum(index, ops.shape(outputs)[axis] - 1), axis=axis)
    return outputs


def _positions(old, new):
    """Where `new` aligned samples are on a side of length `old`: float32 [new], 0 .. old - 1."""
    step = ops.cast(old - 1, "float32") / ops.cast(ops.maximum(new - 1, 1), "float32")
    return ops.arange(new, dtype="float32") * ops.where(ops.equal(new, 1), 0.0, step)


def _positions_of_centers(old, new):
    """Where the centers of `new` pixels are on a side of `old` pixels: float32 [new], 0 .. old - 1."""
    step = ops.cast(old, "float32") / ops.cast(new, "float32")
    return ops.clip((ops.arange(new, dtype="float32") + 0.5) * step - 0.5, 0.0, ops.cast(old - 1, "float32"))


def _interpolate(values, axis: int, length, align_corners: bool):
    old = ops.shape(values)[axis]
    position = _positions(old, length) if align_corners else _positions_of_centers(old, length)
    low = ops.minimum(ops.cast(ops.floor(position), "int32"), old - 1)
    high = ops.minimum(low + 1, old - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    weight = ops.reshape(position - ops.cast(low, "float32"), shape)
    return ops.take(values, low, axis=axis) * (1.0 - weight) + ops.take(values, high, axis=axis) * weight
