/* style.h -- the look and the few lines of script of report.html. */
#ifndef TIC_REPORT_STYLE_H
#define TIC_REPORT_STYLE_H
extern const char report_css[], report_script[];
enum { REPORT_COLORS = 6 };      /* of runs: classes c0 .. c5; steps of a mixture: s0 .. s8 */
#endif
