"""Score: hold reconstructions against the truth, blind guesses and nulls, and say what that demonstrates."""

from auditor.results.attempts import Conclusion
from auditor.results.audit import Confidence
from auditor.results.scores import EXACT_DB, ClipScore, CopyScore, FaceMatch, Grade, Interval, Retrieval
from auditor.score.appearance import Appearance
from auditor.score.baselines import blind_guesses, reference_copies
from auditor.score.clip import score_clip
from auditor.score.confidence import confidence, unaccounted_for
from auditor.score.credibility import Evidence, conclude
from auditor.score.embedding import embedding_rank
from auditor.score.faces import FALSE_ACCEPT, SAME_PERSON, FaceRecogniser
from auditor.score.grade import (
    clearly_above_chance,
    clearly_identified,
    grade_clip,
    grade_finding,
    may_be_recognised,
    merged,
    reach,
)
from auditor.score.intervals import bits_interval, proportion, recall_interval
from auditor.score.lpips import Lpips
from auditor.score.membership import MembershipTest
from auditor.score.membership import calibrate as calibrate_membership
from auditor.score.motion import motion_psnr
from auditor.score.pairing import pair
from auditor.score.perceptual import perceptual_distance
from auditor.score.privacy.accountant import sampled_epsilon
from auditor.score.privacy.filter_bound import empirical_epsilon, matched, normal_epsilon
from auditor.score.privacy.gaussian_privacy import gaussian_epsilon, gaussian_mu, most_recall
from auditor.score.psnr import psnr
from auditor.score.retrieval import is_found, rank, summarise, tail_bound, z_score
from auditor.score.severity import FORMULA, Severity, severity, severity_of_map
from auditor.score.ssim import ssim_frames
from auditor.score.verdict import Course, Verdict, decide, exposed, gate

__all__ = [
    "EXACT_DB",
    "FALSE_ACCEPT",
    "FORMULA",
    "SAME_PERSON",
    "Appearance",
    "ClipScore",
    "Conclusion",
    "Confidence",
    "CopyScore",
    "Course",
    "Evidence",
    "FaceMatch",
    "FaceRecogniser",
    "Grade",
    "Interval",
    "Lpips",
    "MembershipTest",
    "Retrieval",
    "Severity",
    "Verdict",
    "bits_interval",
    "blind_guesses",
    "calibrate_membership",
    "clearly_above_chance",
    "clearly_identified",
    "conclude",
    "confidence",
    "decide",
    "embedding_rank",
    "empirical_epsilon",
    "exposed",
    "gate",
    "gaussian_epsilon",
    "gaussian_mu",
    "grade_clip",
    "grade_finding",
    "is_found",
    "matched",
    "may_be_recognised",
    "merged",
    "most_recall",
    "motion_psnr",
    "normal_epsilon",
    "pair",
    "perceptual_distance",
    "proportion",
    "psnr",
    "rank",
    "reach",
    "recall_interval",
    "reference_copies",
    "sampled_epsilon",
    "score_clip",
    "severity",
    "severity_of_map",
    "ssim_frames",
    "summarise",
    "tail_bound",
    "unaccounted_for",
    "z_score",
]
