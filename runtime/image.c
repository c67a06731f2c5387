/* image.c - one picture: decoding by libjpeg and libpng, whose errors come back
 * as statuses, and Pillow's resampling. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it first */
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "base/num.h"
#include "runtime/images.h"

enum { SIDE_MAX = 1 << 16, PIXELS_MAX = 1 << 28 };

#define image_error(c, file, code, ...) \
  pare_diag_set(&(c)->diag, (code), (file), NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* Room for h x w pixels, with sizes from a file. */
static PareStatus new_image(PareCtx *c, PareArena *a, const char *file, int64_t h, int64_t w, int channels,
                            PareImage *out) {
  if (h < 1 || w < 1 || h > SIDE_MAX || w > SIDE_MAX || h * w > PIXELS_MAX)
    return image_error(c, file, PARE_DATA, "a picture of %" PRId64 " x %" PRId64 " pixels is too large", w, h);
  *out = (PareImage){h, w, channels, pare_arena_alloc(a, (size_t)(h * w), (size_t)channels)};
  return out->px ? PARE_OK : pare_nomem(c);
}

/* ---- JPEG ---- */

typedef struct JpegError {
  struct jpeg_error_mgr base;
  jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
} JpegError;

static void jpeg_fail(j_common_ptr j) {
  JpegError *e = (JpegError *)j->err;
  e->base.format_message(j, e->text);
  longjmp(e->jump, 1);
}

/* libjpeg paints what is missing at the end grey; like Pillow we refuse that,
 * and pass over the warnings that many good pictures give. */
static void jpeg_message(j_common_ptr j, int level) {
  if (level < 0 && j->err->msg_code == JWRN_JPEG_EOF) jpeg_fail(j);
}

/* Of inks, 255 where there is none as Adobe's programs store them, what is left of white, as Pillow rounds it. */
static void rgb_of_cmyk(int64_t n, const uint8_t *cmyk, uint8_t *rgb) {
  for (int64_t i = 0; i < n; i++)
    for (int k = 0; k < 3; k++) {
      unsigned white = cmyk[4 * i + 3], ink = (255u - cmyk[4 * i + k]) * white + 128;
      rgb[3 * i + k] = (uint8_t)(white - (((ink >> 8) + ink) >> 8));
    }
}

/* All that lives across the jump is in *j and *out. */
static PareStatus jpeg_rows(PareCtx *c, PareArena *a, const char *file, struct jpeg_decompress_struct *j,
                            PareImage *out) {
  jpeg_read_header(j, TRUE);
  bool grey = j->jpeg_color_space == JCS_GRAYSCALE;
  bool inks = j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
  j->out_color_space = grey ? JCS_GRAYSCALE : inks ? JCS_CMYK : JCS_RGB;
  PARE_TRY(new_image(c, a, file, j->image_height, j->image_width, grey ? 1 : 3, out));
  uint8_t *four = inks ? pare_arena_alloc(a, (size_t)out->w, 4) : NULL;
  if (inks && !four) return pare_nomem(c);
  jpeg_start_decompress(j);
  while (j->output_scanline < j->output_height) {
    uint8_t *at = out->px + (size_t)j->output_scanline * (size_t)out->w * (size_t)out->channels;
    JSAMPROW row = inks ? four : at;
    jpeg_read_scanlines(j, &row, 1);
    if (inks) rgb_of_cmyk(out->w, four, at);
  }
  jpeg_finish_decompress(j);
  return PARE_OK;
}

static PareStatus decode_jpeg(PareCtx *c, PareArena *a, const char *file, const uint8_t *bytes, size_t n,
                              PareImage *out) {
  struct jpeg_decompress_struct j = {0};
  JpegError e;
  PareStatus s;
  j.err = jpeg_std_error(&e.base);
  e.base.error_exit = jpeg_fail;
  e.base.emit_message = jpeg_message;
  if (setjmp(e.jump)) {
    s = image_error(c, file, PARE_FORMAT, "not a sound JPEG: %s", e.text);
  } else {
    jpeg_create_decompress(&j);
    jpeg_mem_src(&j, bytes, (unsigned long)n);
    s = jpeg_rows(c, a, file, &j, out);
  }
  jpeg_destroy_decompress(&j);
  return s;
}

/* ---- PNG ---- */

typedef struct PngSource {
  const uint8_t *at;
  size_t left;
  char text[160];
} PngSource;

static void png_fail(png_structp p, png_const_charp message) {
  PngSource *src = png_get_error_ptr(p);
  snprintf(src->text, sizeof src->text, "%s", message);
  png_longjmp(p, 1);
}

static void png_ignore(png_structp p, png_const_charp message) { (void)p, (void)message; }

static void png_take(png_structp p, png_bytep out, size_t n) {
  PngSource *src = png_get_io_ptr(p);
  if (n > src->left) png_error(p, "the file ends early");
  memcpy(out, src->at, n);
  src->at += n;
  src->left -= n;
}

/* Asks for 8-bit grey or RGB without alpha, whatever the file has. */
static PareStatus png_rows(PareCtx *c, PareArena *a, const char *file, png_structp p, png_infop info,
                           PareImage *out) {
  png_read_info(p, info);
  int64_t h = png_get_image_height(p, info), w = png_get_image_width(p, info);
  bool grey = !(png_get_color_type(p, info) & PNG_COLOR_MASK_COLOR);
  PARE_TRY(new_image(c, a, file, h, w, grey ? 1 : 3, out));
  png_bytep *row = PARE_NEW_N(a, h, png_bytep);
  if (!row) return pare_nomem(c);
  for (int64_t y = 0; y < h; y++) row[y] = out->px + (size_t)(y * w) * (size_t)out->channels;
  png_set_palette_to_rgb(p);
  png_set_expand_gray_1_2_4_to_8(p);
  png_set_strip_16(p);
  png_set_strip_alpha(p);
  png_set_interlace_handling(p);
  png_read_update_info(p, info);
  if (png_get_rowbytes(p, info) != (size_t)w * (size_t)out->channels)
    return image_error(c, file, PARE_FORMAT, "an unusual PNG: save it as 8-bit RGB");
  png_read_image(p, row);
  png_read_end(p, NULL);
  return PARE_OK;
}

static PareStatus decode_png(PareCtx *c, PareArena *a, const char *file, const uint8_t *bytes, size_t n,
                             PareImage *out) {
  PngSource src = {bytes, n, ""};
  png_structp p = png_create_read_struct(PNG_LIBPNG_VER_STRING, &src, png_fail, png_ignore);
  png_infop info = p ? png_create_info_struct(p) : NULL;
  PareStatus s;
  if (!info) {
    s = pare_nomem(c);
  } else if (setjmp(png_jmpbuf(p))) {
    s = image_error(c, file, PARE_FORMAT, "not a sound PNG: %s", src.text);
  } else {
    png_set_read_fn(p, &src, png_take);
    png_set_user_limits(p, SIDE_MAX, SIDE_MAX);
    s = png_rows(c, a, file, p, info, out);
  }
  png_destroy_read_struct(&p, &info, NULL);
  return s;
}

PareStatus pare_image_decode(PareCtx *c, PareArena *a, const char *file, const uint8_t *bytes, size_t n,
                             int channels, PareImage *out) {
  PareImage own;
  if (n >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) PARE_TRY(decode_jpeg(c, a, file, bytes, n, &own));
  else if (n >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8)) PARE_TRY(decode_png(c, a, file, bytes, n, &own));
  else return image_error(c, file, PARE_FORMAT, "neither a JPEG nor a PNG");
  return pare_image_channels(c, a, &own, channels, out);
}

PareStatus pare_image_channels(PareCtx *c, PareArena *a, const PareImage *in, int channels, PareImage *out) {
  *out = *in;
  if (in->channels == channels) return PARE_OK;
  size_t n = (size_t)(in->h * in->w);
  out->channels = channels;
  out->px = pare_arena_alloc(a, n, (size_t)channels);
  if (!out->px) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    const uint8_t *p = in->px + i * (size_t)in->channels;
    if (channels == 3) memset(out->px + 3 * i, p[0], 3);
    /* Pillow's L: ITU-R 601-2 luma in 16-bit fixed point */
    else out->px[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
  }
  return PARE_OK;
}

/* ---- resampling (Pillow, src/libImaging/Resample.c) ---- */

enum { WEIGHT_BITS = 32 - 8 - 2 };

/* For each output place the first input place, and `taps` weights from there. */
typedef struct Filter {
  int64_t taps;
  int64_t *first, *count;
  int32_t *weight; /* [out, taps], fixed point */
} Filter;

typedef struct Kernel {
  double (*at)(double x);
  double support; /* zero from there on */
} Kernel;

static double triangle(double x) { return x < 0 ? (x > -1 ? 1 + x : 0) : (x < 1 ? 1 - x : 0); }

/* Keys' cubic with a = -1/2. */
static double cubic(double x) {
  const double a = -0.5;
  x = fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const Kernel kernels[] = {[PARE_BILINEAR] = {triangle, 1}, [PARE_BICUBIC] = {cubic, 2}};

/* The kernel over a unit of one output pixel, at least of one input pixel. */
static PareStatus make_filter(PareCtx *c, PareArena *a, int64_t in, int64_t out, PareResample how, Filter *f) {
  double scale = (double)in / (double)out, unit = scale < 1 ? 1 : scale, support = kernels[how].support * unit;
  f->taps = (int64_t)ceil(support) * 2 + 1;
  f->first = PARE_NEW_N(a, out, int64_t);
  f->count = PARE_NEW_N(a, out, int64_t);
  f->weight = pare_arena_alloc(a, (size_t)(out * f->taps), sizeof *f->weight);
  double *k = PARE_NEW_N(a, f->taps, double);
  if (!f->first || !f->count || !f->weight || !k) return pare_nomem(c);
  for (int64_t o = 0; o < out; o++) {
    double center = ((double)o + 0.5) * scale, sum = 0;
    int64_t lo = (int64_t)(center - support + 0.5), hi = (int64_t)(center + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > in) hi = in;
    for (int64_t i = 0; i < hi - lo; i++) sum += k[i] = kernels[how].at(((double)(i + lo) - center + 0.5) * (1 / unit));
    for (int64_t i = 0; i < hi - lo; i++)
      f->weight[o * f->taps + i] = (int32_t)((k[i] < 0 ? -0.5 : 0.5) + k[i] / sum * (1 << WEIGHT_BITS));
    f->first[o] = lo;
    f->count[o] = hi - lo;
  }
  return PARE_OK;
}

/* One output value: weights along a line of pixels `stride` bytes apart. */
static uint8_t weigh(const uint8_t *px, size_t stride, const int32_t *w, int64_t n) {
  int32_t sum = 1 << (WEIGHT_BITS - 1);
  for (int64_t i = 0; i < n; i++) sum += (int32_t)px[(size_t)i * stride] * w[i];
  int32_t v = sum >> WEIGHT_BITS;
  return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static PareStatus resize_width(PareCtx *c, PareArena *a, const PareImage *in, int64_t w, PareResample how,
                               PareImage *out) {
  Filter f;
  size_t ch = (size_t)in->channels;
  PARE_TRY(make_filter(c, a, in->w, w, how, &f));
  *out = (PareImage){in->h, w, in->channels, pare_arena_alloc(a, (size_t)(in->h * w), ch)};
  if (!out->px) return pare_nomem(c);
  for (int64_t y = 0; y < in->h; y++)
    for (int64_t x = 0; x < w; x++)
      for (size_t k = 0; k < ch; k++)
        out->px[(size_t)(y * w + x) * ch + k] = weigh(in->px + (size_t)(y * in->w + f.first[x]) * ch + k, ch,
                                                      f.weight + x * f.taps, f.count[x]);
  return PARE_OK;
}

static PareStatus resize_height(PareCtx *c, PareArena *a, const PareImage *in, int64_t h, PareResample how,
                                PareImage *out) {
  Filter f;
  size_t row = (size_t)in->w * (size_t)in->channels;
  PARE_TRY(make_filter(c, a, in->h, h, how, &f));
  *out = (PareImage){h, in->w, in->channels, pare_arena_alloc(a, (size_t)h, row)};
  if (!out->px) return pare_nomem(c);
  for (int64_t y = 0; y < h; y++)
    for (size_t x = 0; x < row; x++)
      out->px[(size_t)y * row + x] =
          weigh(in->px + (size_t)f.first[y] * row + x, row, f.weight + y * f.taps, f.count[y]);
  return PARE_OK;
}

PareStatus pare_image_resize(PareCtx *c, PareArena *a, const PareImage *in, int64_t h, int64_t w, PareResample how,
                             PareImage *out) {
  PareImage wide = *in;
  if (w != in->w) PARE_TRY(resize_width(c, a, in, w, how, &wide));
  *out = wide;
  return h != in->h ? resize_height(c, a, &wide, h, how, out) : PARE_OK;
}

/* Half of an odd difference is rounded to even, as Python's round. */
static int64_t centre(int64_t n, int64_t crop) { return (int64_t)nearbyint((double)(n - crop) / 2); }

static PareStatus crop_centre(PareCtx *c, PareArena *a, const PareImage *in, int64_t crop, PareImage *out) {
  size_t ch = (size_t)in->channels, row = (size_t)crop * ch;
  int64_t top = centre(in->h, crop), left = centre(in->w, crop);
  *out = (PareImage){crop, crop, in->channels, pare_arena_alloc(a, (size_t)crop, row)};
  if (!out->px) return pare_nomem(c);
  for (int64_t y = 0; y < crop; y++)
    memcpy(out->px + (size_t)y * row, in->px + (size_t)((top + y) * in->w + left) * ch, row);
  return PARE_OK;
}

PareStatus pare_image_frame(PareCtx *c, PareArena *a, const char *file, const PareImage *in,
                            const PareImageOptions *opt, PareImage *out) {
  PareImage sized = *in;
  int64_t h = opt->resize ? opt->resize : in->h, w = opt->resize ? opt->resize : in->w;
  if (opt->resize && opt->crop) { /* the shorter side; the longer one as torchvision's Resize */
    if (in->h < in->w) w = opt->resize * in->w / in->h;
    else h = opt->resize * in->h / in->w;
  }
  if (h > SIDE_MAX || w > SIDE_MAX || h * w > PIXELS_MAX)
    return image_error(c, file, PARE_DATA, "%" PRId64 " x %" PRId64 " pixels are too narrow to be resized", in->w,
                       in->h);
  if (h < opt->crop || w < opt->crop)
    return image_error(c, file, PARE_DATA, "%" PRId64 " x %" PRId64 " pixels are too few for a crop of %" PRId64, w, h,
                       opt->crop);
  PARE_TRY(pare_image_resize(c, a, in, h, w, opt->resample, &sized));
  *out = sized;
  return opt->crop ? crop_centre(c, a, &sized, opt->crop, out) : PARE_OK;
}

void pare_image_normalize(const PareImage *in, const PareImageOptions *opt, float *out) {
  size_t ch = (size_t)in->channels, n = (size_t)(in->h * in->w);
  for (size_t k = 0; k < ch; k++) {
    float mean = opt->mean[k], std = opt->std[k] != 0 ? opt->std[k] : 1;
    for (size_t i = 0; i < n; i++) out[k * n + i] = ((float)in->px[i * ch + k] / 255.0f - mean) / std;
  }
}

PareStatus pare_image_check_options(PareCtx *c, const PareImageOptions *opt) {
  if (opt->channels != 0 && opt->channels != 1 && opt->channels != 3)
    return pare_error(c, PARE_USAGE, "pictures have 1 or 3 channels, not %d", opt->channels);
  if (opt->resize < 0 || opt->resize > SIDE_MAX || opt->crop < 0 || opt->crop > SIDE_MAX)
    return pare_error(c, PARE_USAGE, "sizes of pictures lie between 1 and %d", SIDE_MAX);
  if (opt->resize && opt->crop > opt->resize)
    return pare_error(c, PARE_USAGE, "a crop of %" PRId64 " is larger than the resized picture, %" PRId64, opt->crop,
                      opt->resize);
  for (int k = 0; k < 3; k++)
    if (!isfinite(opt->mean[k]) || !isfinite(opt->std[k]) || opt->std[k] < 0)
      return pare_error(c, PARE_USAGE, "mean and std must be finite, std positive");
  return PARE_OK;
}
