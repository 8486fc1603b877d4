"""MNIST and its minibatches."""

import gzip
import hashlib
import os
import struct

import numpy as np
import pytest
from conftest import MNIST, ROOT, TEST, TRAIN, idx_bytes, make_flags, new_session, unpacked

import gan_mnist

SHA256 = {  # what sha256sum says of the unpacked files
    TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}


@pytest.fixture(scope="module")
def mnist():
    """Training, validation and test images of MNIST, as load_data gives them."""
    return gan_mnist.load_data(MNIST)[:3]


# ------------------------------------------------------------------------------------------ files


def test_the_committed_files_are_MNIST():
    for name, digest in SHA256.items():
        assert hashlib.sha256(unpacked(name)).hexdigest() == digest


def test_MNIST_is_read_byte_for_byte(mnist):
    train, validation, test = mnist
    assert (train.shape, validation.shape, test.shape) == ((55000, 784), (5000, 784), (10000, 784))
    assert train.dtype == validation.dtype == test.dtype == np.uint8
    pixels = train.tobytes() + validation.tobytes()
    assert pixels == unpacked(TRAIN)[16:]
    assert test.tobytes() == unpacked(TEST)[16:]
    histogram = np.bincount(np.frombuffer(pixels, np.uint8), minlength=256)
    mean = (histogram * np.arange(256)).sum() / float(len(pixels))
    assert mean == pytest.approx(33.3184, abs=1e-4)  # known facts of MNIST
    assert histogram[0] / float(len(pixels)) == pytest.approx(0.8088, abs=1e-4)


def test_images_belong_to_the_labels_of_MNIST(mnist):
    with gzip.open(os.path.join(ROOT, "tests", "labels", "t10k-labels-idx1-ubyte.gz")) as file:
        labels = np.frombuffer(file.read()[8:], np.uint8)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    test, labels = np.float64(mnist[2][:1000]), labels[:1000]
    means = np.array([test[labels == digit].mean(0) for digit in range(10)])
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels).mean() > 0.75  # images out of step would give little over 0.1


def test_images_are_white_on_black_and_upright(mnist):
    mean = mnist[0].mean(0).reshape(28, 28)
    assert mean[[0, -1]].max() < 1 and mean[:, [0, -1]].max() < 1  # the margin is empty
    assert mean[10:18, 10:18].min() > 50
    first = mnist[2][0].reshape(28, 28)  # a seven: its bar is above, its foot below
    assert first[:12].sum(1).max() > 2 * first[16:].sum(1).max()


def test_validation_images_are_the_last_5000_of_the_training_file(mnist):
    assert mnist[1].tobytes() == unpacked(TRAIN)[-5000 * 784 :]


def test_a_small_data_set_holds_out_its_last_twelfth(small_mnist):
    train, validation, test = gan_mnist.load_data(small_mnist)[:3]
    assert (len(train), len(validation), len(test)) == (220, 20, 60)
    start = unpacked(TRAIN)[16 : 16 + 240 * 784]
    assert np.concatenate([train, validation]).tobytes() == start


def test_gzipped_and_unpacked_files_give_the_same_images(small_mnist, tmp_path):
    plain = os.path.join(small_mnist, TRAIN)
    with open(plain, "rb") as file, gzip.open(str(tmp_path / (TRAIN + ".gz")), "wb") as packed:
        packed.write(file.read())
    images = gan_mnist.read_idx(plain)
    assert images.shape == (240, 784)
    assert images.tobytes() == gan_mnist.read_idx(str(tmp_path / (TRAIN + ".gz"))).tobytes()


def test_the_header_is_big_endian(tmp_path):
    row = bytes(range(256)) * 3 + bytes(16)
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(struct.pack(">4I", 2051, 1, 28, 28) + row)
    bad.write_bytes(struct.pack("<4I", 2051, 1, 28, 28) + row)
    assert good.read_bytes() == idx_bytes([row])
    assert gan_mnist.read_idx(str(good)).tobytes() == row
    with pytest.raises(gan_mnist.BadInput, match="bad"):
        gan_mnist.read_idx(str(bad))


# ------------------------------------------------------------------------------------ minibatches


def model_row(seed, n, length):
    """The row of indices, one epoch after the other as they come: the simple way to have it."""
    row, epoch = [], 0
    while len(row) < length:
        row += gan_mnist.minibatch_indices(seed, n, epoch * n, n).tolist()
        epoch += 1
    return row


def test_an_epoch_visits_every_image_once():
    for n in (1, 7, 220, 55000):
        for epoch in (0, 1, 5):
            visited = gan_mnist.minibatch_indices(3, n, epoch * n, n)
            assert sorted(visited.tolist()) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        gan_mnist.minibatch_indices(seed, 1000, epoch * 1000, 1000)
        for seed in range(3)
        for epoch in range(4)
    ]
    for k, a in enumerate(orders):
        assert (a == np.arange(1000)).mean() < 0.02  # by chance one image in a thousand
        for b in orders[:k]:
            assert (a == b).mean() < 0.02


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_any_part_of_the_row_of_indices_is_the_same_row(n):
    row = model_row(5, n, 1000)
    for start in (0, 1, n - 1, n, n + 1, 3 * n, 101):
        for count in (0, 1, n - 1, n, n + 1, 2 * n, 5 * n + 3):
            part = gan_mnist.minibatch_indices(5, n, start, count)
            assert part.tolist() == row[start : start + count]


def marked_images(n):
    """n images that tell their own number."""
    images = np.zeros([n, 784], np.uint8)
    images[:, :2] = np.array([divmod(k, 256) for k in range(n)])
    return images


def test_D_meets_the_images_in_the_order_of_the_row_from_chunk_to_chunk():
    flags, n = make_flags(batch_size=64, d_step=3), 1000
    seen = []
    for chunk in range(3):
        x = gan_mnist.draw_chunk(flags, marked_images(n), chunk)[0]
        assert x.shape == (gan_mnist.chunk_size(flags), 3, 64, 784) and x.dtype == np.uint8
        seen += [256 * high + low for high, low in x[..., :2].reshape(-1, 2).tolist()]
    assert seen == model_row(0, n, len(seen))[: len(seen)]


def test_a_chunk_depends_on_the_seed_and_its_number_alone():
    images = marked_images(220)
    first = gan_mnist.draw_chunk(make_flags(seed=4), images, 7)
    gan_mnist.draw_chunk(make_flags(seed=4), images, 8)
    np.random.seed(1)
    again = gan_mnist.draw_chunk(make_flags(seed=4, max_steps=9, summary_steps=1), images, 7)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    for seed, number in ((4, 8), (5, 7)):
        other = gan_mnist.draw_chunk(make_flags(seed=seed), images, number)
        assert [a.tobytes() == b.tobytes() for a, b in zip(first, other)] == [False] * 3


def uniform(bits):
    """The script's numbers from random bits, as TensorFlow works them out."""
    with new_session() as session:
        return session.run(gan_mnist.uniform(gan_mnist.tf.constant(bits)))


def assert_uniform(values):
    """The values are spread evenly over [-1, 1], and no two of them hang together."""
    assert values.dtype == np.float32 and values.min() >= -1 and values.max() <= 1
    assert values.min() < -0.9999 and values.max() > 0.9999 and abs(values.mean()) < 0.002
    assert values.var() == pytest.approx(1 / 3.0, rel=0.01)
    histogram = np.histogram(values, 20, (-1, 1))[0] / float(values.size)
    np.testing.assert_allclose(histogram, 0.05, rtol=0.02)
    for lag in (1, 2, 100):
        assert abs((values.ravel()[lag:] * values.ravel()[:-lag]).mean()) < 0.002


def test_z_is_uniform_and_fresh_in_every_update():
    flags = make_flags(d_step=2, g_step=3)
    chunks = [gan_mnist.draw_chunk(flags, marked_images(220), k) for k in range(2)]
    size = gan_mnist.chunk_size(flags)
    for _, D_bits, G_bits in chunks:
        assert D_bits.shape == (size, 2, 16, 100 + 128 + 128) and D_bits.dtype == np.int32
        assert G_bits.shape == (size, 3, 16, 100 + 128) and G_bits.dtype == np.int32
    z = [bits[..., :100].reshape(-1, 100) for chunk in chunks for bits in chunk[1:]]
    z = uniform(np.concatenate(z))
    assert len({row.tobytes() for row in z}) == len(z) == 2 * size * 5 * 16
    assert_uniform(z)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.5, 0.9])
def test_dropout_leaves_out_its_share_of_the_units_and_keeps_their_mean(dropout):
    flags = make_flags(d_step=2, g_step=1, dropout=dropout)
    _, D_bits, G_bits = gan_mnist.draw_chunk(flags, marked_images(220), 0)
    chance = [uniform(bits[..., 100:].reshape(-1, 128)) for bits in (D_bits, G_bits)]
    for values in chance:
        assert_uniform(values)
    with new_session() as session:
        factors = session.run(gan_mnist.GAN(flags).dropout(gan_mnist.tf.constant(chance[0])))
    assert set(np.unique(factors)) <= {0, np.float32(1 / (1 - dropout))}
    assert (factors > 0).mean() == pytest.approx(1 - dropout, abs=0.003)
    assert factors.mean() == pytest.approx(1, abs=0.02)
    if dropout:  # each image has units of its own left out
        assert len({row.tobytes() for row in factors}) > 0.999 * len(factors)
