/* images.h - pictures as the input of a vision model: decoded, resized as PIL
 * and torchvision do, cropped and normalised into f32 [N, C, H, W]. */
#ifndef PARE_RUNTIME_IMAGES_H
#define PARE_RUNTIME_IMAGES_H

#include "runtime/data.h"

typedef enum PareResample { PARE_BILINEAR, PARE_BICUBIC } PareResample;

/* Zero means default. x = (px / 255 - mean) / std for each channel. */
typedef struct PareImageOptions {
  const char *name; /* of the array: the model's input; "pixel_values" */
  int64_t resize;   /* with crop: the shorter side becomes this; without: both do; 0: left as they are */
  int64_t crop;     /* then a square of this size is cut from the centre; 0: all of it */
  PareResample resample; /* bilinear */
  int channels;     /* 3, or 1 for grey; default: 3 for a folder, the file's own for IDX */
  float mean[3];    /* 0 */
  float std[3];     /* 0 stands for 1 */
} PareImageOptions;

/* Reads a folder with a sub-folder per class of .jpg, .jpeg or .png files, or of further folders with such. Classes are
 * counted in sorted order, which the log tells, files too, folder by folder; hidden and other files are passed over, and
 * the log says how many of the latter. Adds "labels", i64 [N]. A picture that
 * cannot be decoded is PARE_FORMAT naming it. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_images_read(PareCtx *c, const char *folder, const PareImageOptions *opt, PareData **out);

/* 8-bit pixels, row-major, channels interleaved. */
typedef struct PareImage {
  int64_t h, w;
  int channels; /* 1 or 3 */
  uint8_t *px;
} PareImage;

/* Decodes a JPEG or PNG (told by its first bytes) to 1 or 3 channels in `a`;
 * alpha is dropped, 16 bits become 8, luma and RGB of CMYK are PIL's. `data` errors name `file`. */
PARE_MUST_USE PareStatus pare_image_decode(PareCtx *c, PareArena *a, const char *file, const uint8_t *bytes, size_t n,
                                           int channels, PareImage *out);
/* With antialias: bit for bit Image.resize(BILINEAR) or BICUBIC of Pillow 4 to 12
 * (13 takes the axes in another order at times: some pixels differ by 1). */
PARE_MUST_USE PareStatus pare_image_resize(PareCtx *c, PareArena *a, const PareImage *in, int64_t h, int64_t w,
                                           PareResample how, PareImage *out);
/* Grey to three equal channels, or colour to luma; `in` itself where it fits. */
PARE_MUST_USE PareStatus pare_image_channels(PareCtx *c, PareArena *a, const PareImage *in, int channels,
                                             PareImage *out);
/* Resize and crop as the options ask. */
PARE_MUST_USE PareStatus pare_image_frame(PareCtx *c, PareArena *a, const char *file, const PareImage *in,
                                          const PareImageOptions *opt, PareImage *out);
/* [H, W, C] bytes to normalised [C, H, W] floats. */
void pare_image_normalize(const PareImage *in, const PareImageOptions *opt, float *out);
/* PARE_USAGE when the options contradict themselves. */
PARE_MUST_USE PareStatus pare_image_check_options(PareCtx *c, const PareImageOptions *opt);

#endif
