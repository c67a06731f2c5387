/* mma.cuh - the tensor cores: products of 16x16 by 16x8 in bf16 with sums in f32 by the 32 lanes of a warp, and what
 * brings operands to them from shared memory and to that from the device's. PTX ISA 8: mma.m16n8k16, ldmatrix, cp.async;
 * of compute capability 8.0. tests/cuda runs the same on the host.
 *
 * With g = lane / 4 and t = lane % 4, a register holding two neighbours of a row, the lower column in the lower half:
 *   A[16,16]  a[0] = row g,   columns 2t, 2t+1     a[1] = row g+8, the same     a[2], a[3]: columns 8 further
 *   B[16,8]   b[0] = rows 2t, 2t+1 of column g     b[1] = rows 8 further
 *   C[16,8]   c[0], c[1] = row g, columns 2t, 2t+1     c[2], c[3] = row g+8
 * so that two C tiles side by side, rounded and packed, are an A. */
#ifndef PARE_KERNELS_CUDA_MMA_CUH
#define PARE_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/cuda.cuh"

#ifdef __CUDACC__
static __device__ inline uint32_t pare_shared_at(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* c += a·b */
static __device__ inline void pare_mma(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four 8x8 matrices from shared memory: lane 8i + j gives the address, aligned to 16 bytes, of row j of matrix i; r[i] is
 * then row g, columns 2t, 2t+1 of matrix i. */
static __device__ inline void pare_ldmatrix(uint32_t r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(pare_shared_at(row)) : "memory");
}
/* The same of their transposes: r[i] is rows 2t, 2t+1 of column g. */
static __device__ inline void pare_ldmatrix_t(uint32_t r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(pare_shared_at(row)) : "memory");
}
/* 16 bytes into shared memory, zeros unless `there`, where `from` is not read; both addresses aligned to 16. They are
 * there for this thread after pare_copy_wait, for others after a barrier behind it. */
static __device__ inline void pare_copy(void *to, const void *from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(pare_shared_at(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
/* Ends a group of copies, which may be empty. */
static __device__ inline void pare_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits for all groups of the thread but the last LEFT. */
template <int LEFT> static __device__ inline void pare_copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
/* 2^x, to 2 ulp. */
static __device__ inline float pare_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/* 1/x, to 1 ulp. */
static __device__ inline float pare_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/* Two numbers rounded to bf16, ties to even; `low` in the lower half. */
static __device__ inline uint32_t pare_pack2(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
#endif

static __device__ inline float pare_low(uint32_t pair) { return pare_bits_to_float(pair << 16); }
static __device__ inline float pare_high(uint32_t pair) { return pare_bits_to_float(pair & 0xffff0000u); }

#endif
