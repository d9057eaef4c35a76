"""Components that PaddleDetection has and this project does not, by kind, and what there is of that kind here."""

import re
from pathlib import Path

from ppdet.core.registry import components_of

# Kind, the package of ours that has components of it, and their names there.
KINDS = (
    (
        "architectures",
        "ppdet.modeling.architectures",
        "ARSL_FCOS BlazeFace ByteTrack CascadeRCNN CenterNet CenterTrack CLRNet DeepSORT DETR DETR_SSOD FairMOT "
        "FasterRCNN GFL HigherHRNet JDE MaskRCNN METRO_Body PETR PicoDet PPYOLOE PPYOLOEWithAuxHead QueryInst "
        "RetinaNet S2ANet SOLOv2 SparseRCNN SSD TinyPose3DHRHeatmapNet TinyPose3DHRNet TOOD TopDownHRNet TTFNet "
        "VitPose_TopDown YOLOF YOLOv3 YOLOX RTDETR DINO YOLOv5 YOLOv6 YOLOv7 YOLOv8",
    ),
    (
        "backbones",
        "ppdet.modeling.backbones",
        "BlazeNet CLRResNet ConvNeXt CSPDarkNet CSPResNet DarkNet DLA ESNet FocalNet GhostNet HarDNet HRNet LCNet "
        "LiteHRNet MobileNet MobileNetV3 PPHGNetV2 Res2Net Res2NetC5 Res5Head SENet SERes5Head ShuffleNetV2 "
        "SimpleFeaturePyramid SwinTransformer TransEncoder VGG VisionTransformer VisionTransformer2D ViT",
    ),
    (
        "necks",
        "ppdet.modeling.necks",
        "BiFPN BlazeNeck CenterNetDLAFPN CenterNetHarDNetFPN ChannelMapper CLRFPN CSPPAN CustomCSPPAN DilatedEncoder "
        "ESPAN HRFPN HybridEncoder LCPAN MaskHybridEncoder PPYOLOFPN PPYOLOPAN PPYOLOTinyFPN TTFFPN YOLOCSPPAN "
        "YOLOv3FPN",
    ),
    (
        "heads",
        "ppdet.modeling.heads",
        "BBoxHead CascadeHead CascadeTwoFCHead CascadeXConvNormHead CenterNetHead CenterTrackHead CLRHead "
        "DeformableDETRHead DETRHead DGQP DIIHead DINOHead DynamicMaskHead FaceHead FCOSHead_ARSL FCOSRHead GFLHead "
        "HMHead HrHRNetHead LDGFLHead MaskDINOHead MaskFeat MaskHead OTAHead OTAVFLHead PETRHead PicoFeat PicoHead "
        "PicoHeadV2 PPYOLOEContrastHead PPYOLOEHead PPYOLOEInsHead PPYOLOERHead RetinaFeat RetinaHead RPNHead "
        "RoIAlign S2ANetHead SimpleConvHead SOLOv2Head SOLOv2MaskHead SparseRCNNHead SparseRoIHead SSDHead TOODHead "
        "TopdownHeatmapSimpleHead TTFHead TwoFCHead WHHead XConvNormHead YOLOFFeat YOLOFHead YOLOv3Head YOLOXHead",
    ),
    (
        "losses",
        "ppdet.modeling.losses",
        "CenterFocalLoss CLRNetLoss COTLoss CTFocalLoss DETRLoss DINOLoss DIouLoss DistributionFocalLoss FairMOTLoss "
        "FCOSLossCR FCOSLossMILC FocalLoss GIoULoss HrHRNetLoss IouAwareLoss IouLoss JDEDetectionLoss "
        "JDEEmbeddingLoss JDELoss KeyPointMSELoss L1Loss MaskDINOLoss OKSLoss Pose3DLoss ProbIoULoss "
        "QualityFocalLoss QueryInstLoss SIoULoss SmoothL1Loss SOLOv2Loss SparseRCNNLoss SSDLoss SSODPPYOLOELoss "
        "SupContrast VarifocalLoss Weighted_FocalLoss YOLOv3Loss",
    ),
    (
        "transforms",
        "ppdet.data.transforms",
        "AddToHueAndSaturation AugmentHSV AutoAugment BatchRandomResize BatchRandomResizeForSSOD BboxCXCYWH2XYXY "
        "BboxXYXY2XYWH CenterRandColor ChannelShuffle CropAndFlipImages CropWithDataAchorSampling CropWithSampling "
        "CULaneAffine CULaneDataProcess CULaneResize CULaneTrainProcess Cutmix DebugVisibleImage DecodeCache "
        "EvalAffine FlipPose FlipWarpAffine GridMask Gt2CenterNetTarget Gt2CenterTrackTarget Gt2GFLTarget "
        "Gt2JDETargetMax Gt2JDETargetThres Gt2Solov2Target Gt2SparseTarget Gt2TTFTarget Gt2YoloTarget HorizontalFlip "
        "KeyPointFlip LetterBoxResize Lighting Mixup Mosaic MOTRandomAffine MultiplyAndAddToBrightness "
        "MultiscaleTestResize NoiseJitter Norm2PixelBbox NormalizeBox NormalizePermute OneOfBlur Pad PadBox PadGT "
        "PadMaskBatch PadResize PadRGT PermuteImages PhotoMetricDistortion Poly2Array Poly2Mask Poly2RBox "
        "RandomAffine RandomErasing RandomErasingImage RandomFlipHalfBody3DTransformImages "
        "RandomFlipHalfBodyTransform RandomResizeCrop RandomRFlip RandomRRotate RandomScaledCrop RandomSelect "
        "RandomSelects RandomShift RandomShortSideRangeResize RandomShortSideResize RandomSizeCrop Rbox2Poly "
        "RGBReverse RResize RRotate SinglePoseAffine SniperDecodeCrop TagGenerate ToHeatmaps ToHeatmapsTopDown "
        "ToHeatmapsTopDown_DARK ToHeatmapsTopDown_UDP TopDownAffine TopDownEvalAffine TopDownGetRandomScaleRotation "
        "TopDownRandomFlip TopDownRandomShiftBboxCenter VisibleRBox WarpAffine",
    ),
    (
        "data sets",
        "ppdet.data.sources",
        "COCODetDataset COCOInstSegDataset CULaneDataSet EvalMOTDataset Keypoint3DMultiFramesDataset "
        "KeypointBottomUpCocoDataset KeypointBottomUpCrowdPoseDataset KeypointTopDownCocoDataset "
        "KeypointTopDownCocoWholeBodyHandDataset KeypointTopDownMPIIDataset MCMOTDataSet MOTDataSet MOTImageFolder "
        "SlicedCOCODataSet SniperCOCODataSet TestMOTDataset VOCDataSet WIDERFaceDataSet WIDERFaceValDataset",
    ),
    ("readers", "ppdet.data", "EvalMOTReader TestMOTReader"),
    (
        "kinds of suppression",
        "ppdet.modeling.nms",
        "BBoxPostProcess CenterNetPostProcess DETRBBoxSemiPostProcess DETRPostProcess JDEBBoxPostProcess JDEBox "
        "MaskMatrixNMS MaskPostProcess MatrixNMS RCNNBox SparsePostProcess SSDBox TTFBox YOLOBox",
    ),
    (
        "parts",
        "ppdet.modeling",
        "AnchorGenerator AnchorGeneratorSSD ATSSAssigner BBoxAssigner BBoxLibraAssigner DeformableTransformer "
        "DETRTransformer DINOTransformer FCOSRAssigner GroupDINOTransformer HungarianMatcher MaskAssigner MaskRTDETR "
        "MaxIoUAssigner ProposalGenerator RBoxAssigner RetinaAnchorGenerator RotatedTaskAlignedAssigner "
        "RPNTargetAssign RTDETRTransformer RTDETRTransformerv2 S2ANetAnchorGenerator SimOTAAssigner "
        "TaskAlignedAssigner TaskAlignedAssigner_CR UniformAssigner",
    ),
    (
        "schedules",
        "ppdet.optimizer",
        "BurninWarmup PolynomialDecay OneCycleDecay StepDecay ExponentialDecay CosineAnnealingDecay",
    ),
    (
        "kinds of slimming",
        "ppdet.slim",
        "CWDDistillModel DistillModel FGDDistillModel LDDistillModel OFA PPYOLOEDistillModel Pruner PrunerQAT PTQ "
        "QAT UnstructuredPruner",
    ),
)
# Beginnings of the names of its files, besides those of its architectures.
FILES = "ppyolo cascademask deformabledetr libra htc rotated fastrcnn hrnet sniper smalldet vitdet"
_KIND_OF = {name.lower(): (kind, package) for kind, package, names in KINDS for name in names.split()}


def elsewhere(name: object) -> str | None:
    """Say of a component of PaddleDetection's that it is not here, and what there is; None for another name."""
    kind, package = _KIND_OF.get(str(name).lower(), (None, ""))
    if kind is None:
        return None
    ours = components_of(package)
    there = f"; {kind} here: {', '.join(ours)}" if ours else f"; there are no {kind} here"
    return f"{name} is one of PaddleDetection's {kind}, and not here: this project is its FCOS alone{there}"


def is_file_of_others(path: Path) -> bool:
    """Tell whether a YAML file, or its folder in configs, is called like one of PaddleDetection's other detectors."""
    names = [path.stem, *([path.parent.name] if path.parent.parent.name == "configs" else [])]
    words = [re.sub("[^a-z0-9]", "", name.lower()) for name in names]
    others = tuple(re.sub("[^a-z0-9]", "", name.lower()) for name in [*KINDS[0][2].split(), *FILES.split()])
    return any(word.startswith(others) for word in words)
