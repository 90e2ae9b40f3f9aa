"""What one training step of a model computes and keeps, counted from one forward pass."""

from auditor.results.declare import record

# Values as large as the scores that the derivative of one head's gradient keeps: the shares, their gradient twice and
# the products in between.
_SCORES = 5


@record
class TrainingStep:
    """One forward and one backward pass on one clip.

    Attributes
    ----------
    operations
        Floating-point operations of the forward pass in convolutions and matrix products; a multiplication and an
        addition are two. A backward pass takes twice as many.
    kept
        Bytes that autograd keeps of the forward pass for the backward pass.
    weights
        Bytes of the parameters; their gradients take as many.
    scores
        Bytes of attention scores that are computed again for the gradient (`long_attention`); further derivatives keep
        them.
    """

    operations: int
    kept: int
    weights: int
    scores: int = 0

    # The factors below are measured on r3d_18 at 8x64x64 and 16x112x112 and on mvit_v2_s at 16x224x224, which agree to
    # 10% beside a fixed 0.1 to 0.3 GB.

    def gradient_bytes(self, clips: int = 1) -> int:
        """Return what the gradient of a batch takes at its peak: what is kept, parameters and their gradients."""
        return self.kept * clips + 2 * self.weights

    def matching_bytes(self, clips: int = 1) -> int:
        """Return what the derivative of a gradient's distance takes: the backward pass is kept as well."""
        return 3 * self.kept * clips + 4 * self.weights + _SCORES * self.scores * clips

    def jacobian_bytes(self, clips: int = 1) -> int:
        """Return what products with the gradient's Jacobian take: the second backward pass is kept as well."""
        return 9 * self.kept * clips + 5 * self.weights + 3 * _SCORES * self.scores * clips

    def smoothed_bytes(self, clips: int = 1) -> int:
        """Return what the same products take while rectifiers are replaced by what they are on average.

        Means and variances of every layer are kept as well, and their derivatives: measured 31 times what a forward
        pass keeps, on r3d_18 at 8x64x64 and 16x112x112; 20 on s3d, which has fewer rectifiers.
        """
        return self.jacobian_bytes(clips) + 22 * self.kept * clips
