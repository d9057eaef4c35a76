"""Components and files of PaddleDetection that this project does not have, for error messages."""

import re
from pathlib import Path

from ppdet.core.registry import components_of

# Names of PaddleDetection's components by kind. Kinds that this project has too are keys of registry.KINDS.
FOREIGN = {
    "architectures": (
        "ARSL_FCOS BlazeFace ByteTrack CascadeRCNN CenterNet CenterTrack CLRNet DeepSORT DETR DETR_SSOD FairMOT "
        "FasterRCNN GFL HigherHRNet JDE MaskRCNN METRO_Body PETR PicoDet PPYOLOE PPYOLOEWithAuxHead QueryInst "
        "RetinaNet S2ANet SOLOv2 SparseRCNN SSD TinyPose3DHRHeatmapNet TinyPose3DHRNet TOOD TopDownHRNet TTFNet "
        "VitPose_TopDown YOLOF YOLOv3 YOLOX RTDETR DINO YOLOv5 YOLOv6 YOLOv7 YOLOv8"
    ),
    "backbones": (
        "BlazeNet CLRResNet ConvNeXt CSPDarkNet CSPResNet DarkNet DLA ESNet FocalNet GhostNet HarDNet HRNet LCNet "
        "LiteHRNet MobileNet MobileNetV3 PPHGNetV2 Res2Net Res2NetC5 Res5Head SENet SERes5Head ShuffleNetV2 "
        "SimpleFeaturePyramid SwinTransformer TransEncoder VGG VisionTransformer VisionTransformer2D ViT"
    ),
    "necks": (
        "BiFPN BlazeNeck CenterNetDLAFPN CenterNetHarDNetFPN ChannelMapper CLRFPN CSPPAN CustomCSPPAN DilatedEncoder "
        "ESPAN HRFPN HybridEncoder LCPAN MaskHybridEncoder PPYOLOFPN PPYOLOPAN PPYOLOTinyFPN TTFFPN YOLOCSPPAN "
        "YOLOv3FPN"
    ),
    "heads": (
        "BBoxHead CascadeHead CascadeTwoFCHead CascadeXConvNormHead CenterNetHead CenterTrackHead CLRHead "
        "DeformableDETRHead DETRHead DGQP DIIHead DINOHead DynamicMaskHead FaceHead FCOSHead_ARSL FCOSRHead GFLHead "
        "HMHead HrHRNetHead LDGFLHead MaskDINOHead MaskFeat MaskHead OTAHead OTAVFLHead PETRHead PicoFeat PicoHead "
        "PicoHeadV2 PPYOLOEContrastHead PPYOLOEHead PPYOLOEInsHead PPYOLOERHead RetinaFeat RetinaHead RPNHead "
        "RoIAlign S2ANetHead SimpleConvHead SOLOv2Head SOLOv2MaskHead SparseRCNNHead SparseRoIHead SSDHead TOODHead "
        "TopdownHeatmapSimpleHead TTFHead TwoFCHead WHHead XConvNormHead YOLOFFeat YOLOFHead YOLOv3Head YOLOXHead"
    ),
    "losses": (
        "CenterFocalLoss CLRNetLoss COTLoss CTFocalLoss DETRLoss DINOLoss DIouLoss DistributionFocalLoss FairMOTLoss "
        "FCOSLossCR FCOSLossMILC FocalLoss GIoULoss HrHRNetLoss IouAwareLoss IouLoss JDEDetectionLoss "
        "JDEEmbeddingLoss JDELoss KeyPointMSELoss L1Loss MaskDINOLoss OKSLoss Pose3DLoss ProbIoULoss "
        "QualityFocalLoss QueryInstLoss SIoULoss SmoothL1Loss SOLOv2Loss SparseRCNNLoss SSDLoss SSODPPYOLOELoss "
        "SupContrast VarifocalLoss Weighted_FocalLoss YOLOv3Loss"
    ),
    "transforms": (
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
        "TopDownRandomFlip TopDownRandomShiftBboxCenter VisibleRBox WarpAffine"
    ),
    "data sets": (
        "COCODetDataset COCOInstSegDataset CULaneDataSet EvalMOTDataset Keypoint3DMultiFramesDataset "
        "KeypointBottomUpCocoDataset KeypointBottomUpCrowdPoseDataset KeypointTopDownCocoDataset "
        "KeypointTopDownCocoWholeBodyHandDataset KeypointTopDownMPIIDataset MCMOTDataSet MOTDataSet MOTImageFolder "
        "SlicedCOCODataSet SniperCOCODataSet TestMOTDataset VOCDataSet WIDERFaceDataSet WIDERFaceValDataset"
    ),
    "readers": "EvalMOTReader TestMOTReader",
    "kinds of NMS": (
        "BBoxPostProcess CenterNetPostProcess DETRBBoxSemiPostProcess DETRPostProcess JDEBBoxPostProcess JDEBox "
        "MaskMatrixNMS MaskPostProcess MatrixNMS RCNNBox SparsePostProcess SSDBox TTFBox YOLOBox"
    ),
    "anchor generators, assigners and transformers": (
        "AnchorGenerator AnchorGeneratorSSD ATSSAssigner BBoxAssigner BBoxLibraAssigner DeformableTransformer "
        "DETRTransformer DINOTransformer FCOSRAssigner GroupDINOTransformer HungarianMatcher MaskAssigner MaskRTDETR "
        "MaxIoUAssigner ProposalGenerator RBoxAssigner RetinaAnchorGenerator RotatedTaskAlignedAssigner "
        "RPNTargetAssign RTDETRTransformer RTDETRTransformerv2 S2ANetAnchorGenerator SimOTAAssigner "
        "TaskAlignedAssigner TaskAlignedAssigner_CR UniformAssigner"
    ),
    "schedules": "BurninWarmup PolynomialDecay OneCycleDecay StepDecay ExponentialDecay CosineAnnealingDecay",
    "slimming methods": (
        "CWDDistillModel DistillModel FGDDistillModel LDDistillModel OFA PPYOLOEDistillModel Pruner PrunerQAT PTQ "
        "QAT UnstructuredPruner"
    ),
}
# First parts of the names of PaddleDetection's configuration files, besides the names of its architectures.
FILES = "ppyolo cascademask deformabledetr libra htc rotated fastrcnn hrnet sniper smalldet vitdet"
_KIND_OF = {name.lower(): kind for kind, names in FOREIGN.items() for name in names.split()}


def describe_foreign_component(name: object) -> str | None:
    """Say that a component of PaddleDetection is missing here, and which components of its kind there are.

    Returns None for any other name.
    """
    kind = _KIND_OF.get(str(name).lower())
    if kind is None:
        return None
    available = [schema.name for schema in components_of(kind)]
    hint = f"; {kind} here: {', '.join(available)}" if available else ""
    return f"{name}, one of PaddleDetection's {kind}, is not part of this project, which only has FCOS{hint}"


def is_foreign_config(path: Path) -> bool:
    """Tell whether a YAML file, or its folder in configs, is named like one of PaddleDetection's other detectors."""
    names = [path.stem, *([path.parent.name] if path.parent.parent.name == "configs" else [])]
    words = [re.sub("[^a-z0-9]", "", name.lower()) for name in names]
    foreign = [*FOREIGN["architectures"].split(), *FILES.split()]
    return any(word.startswith(tuple(re.sub("[^a-z0-9]", "", name.lower()) for name in foreign)) for word in words)
